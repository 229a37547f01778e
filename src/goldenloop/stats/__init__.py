"""Pure numerics: arrays in, small frozen records out.

Rules of this room. Nothing here reads a clock, a file or a global; randomness comes from a seed that the caller
gives. A running statistic is a frozen record that JSON can hold: `update` returns the next one, so state can be
stored, replayed and compared. Each public statistic states its formula and source, where it misleads, its error rate,
its cost and its errors. Bad input is a ValueError that names what is wrong; nothing is guessed.
"""
