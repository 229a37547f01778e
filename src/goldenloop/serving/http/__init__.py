"""HTTP/1.1 as an inference worker speaks it: what is read of a request, and what is written of its answer, costs as little as can be.

`messages` are a request and its answer, `connection` is one connection, `server` listens and drains. The parser is llhttp's (httptools).
"""
