"""One page of data, runs, predictions and submissions, and its figures for a paper.

The order of the rooms: `sources` reads what is there, `findings` computes, `outline` says what stands on the
page and what is missing, from `*_charts`, `*_tables` and `worst_clips`; `page` sets it, and `writing` does
all of it. matplotlib and jinja2 are the extra `report`.
"""
