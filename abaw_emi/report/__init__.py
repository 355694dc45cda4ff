"""One page of data, runs, predictions and submissions, and its figures for a paper.

`sources` reads the files and `results` computes; `layout` decides what is on the page, from `charts` and
`*_tables`; `page` renders it. matplotlib and jinja2 are the extra `report`.
"""
