"""Arrays of numbers and torch tensors out of pickles; nothing that a pickle names is imported or called.

A pickle can call any function, and can ask for gigabytes in a few bytes. So it is read in three steps:

1. `opcodes` looks at every opcode before any is carried out.
2. `notes` carries them out by `pickle.Unpickler`, with a `find_class` that imports nothing: the few names of
   classes and functions that arrays need become a `Note`, and so do calls of them.
3. `arrays` knows the notes that arrays and tensors leave, and builds views of the file's bytes from them.
   NumPy's and torch's functions are not handed what a pickle says: they reserve what memory it asks for, and
   can return it unwritten. torch is not imported.
"""
