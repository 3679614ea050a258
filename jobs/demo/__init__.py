"""The demo: about 110 pages of our own text as WARCs, small models built on the spot, and the flow that joins them.

`pages` writes the WARCs, `models` the models, `prepare` both places' paths into a run.toml. Everything here shows that
the code works; none of it says anything about quality on real web text.
"""
