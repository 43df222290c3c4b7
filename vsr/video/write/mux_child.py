"""A program that muxes a few packets of one stream, to find out in a process of its own whether
libavformat survives it.

    python mux_child.py FORMAT SOURCE STREAM

Ends with 0 whatever the muxer says, so that only a crash is anything else. Uses nothing of the
package: it starts in a tenth of a second.
"""

import io
import sys
from contextlib import suppress
from itertools import islice

import av

NUM_PACKETS = 12


def main(container_format: str, source: str, number: str) -> None:
    """Mux the first packets of a stream into memory."""
    with av.open(f"file:{source}", metadata_errors="surrogateescape") as container:
        stream = container.streams[int(number)]
        packets = [packet for packet in islice(container.demux(stream), NUM_PACKETS) if packet.size]
        # FFmpeg's own errors, and PyAV's, are answers; only the end of the process is not.
        with (
            suppress(av.FFmpegError, ValueError),
            av.open(io.BytesIO(), "w", format=container_format) as out,
        ):
            copy = out.add_stream_from_template(stream, opaque=True)
            for packet in packets:
                packet.stream = copy
                packet.dts = packet.pts if packet.dts is None else packet.dts
                out.mux_one(packet)


if __name__ == "__main__":
    main(*sys.argv[1:])
