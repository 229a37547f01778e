"""gRPC, on a transport of our own: HTTP/2 frames read and written in the event loop that also answers REST.

    frames       what goes over the wire, and the errors of the protocol
    hpack        header blocks → fields, and back (`huffman` is its code for texts)
    heads        fields → the head of a call; equal blocks are read once
    streams      a request and its answer; `sending` is what goes out on them
    connection   one client's connection: streams, windows, limits (no I/O, no clock)
    inbox        bytes → messages, within a budget of memory
    status       the status of a call, and the one table from an error to it
    calls        a call from its first message to its last; deadlines and cancelling
    services     what is called: inference, `health`, `reflection`
    listening    sockets, timers, draining
    server       what an inference worker serves

Why not a library's server: with the same handler, server CPU per unary call was 48 to 59 µs here, 48 to 72 with zttp (a parser in Zig), 453
with grpc.aio, and 785 with grpcio's threads handing over to the loop. A parser in C saves little, because clients repeat their header
blocks, and a block that was seen before is one look-up; and none of them gives a hand on windows, by which memory is bounded here. The
decision is docs/adr/0013.
"""
