"""Subtitles of text in MP4: SubRip, WebVTT and ASS become the text format of that family."""

from fractions import Fraction

from av.codec.context import CodecContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

MOV_TEXT = "mov_text"
TEXT_CODECS = ("subrip", "srt", "webvtt", "ass", "ssa", "text")
"""Codecs whose events libav turns into those of ASS, which MP4's encoder takes."""
MILLISECOND = Fraction(1, 1000)


class TextConverter:
    """Turns the packets of a stream of text into packets of `MOV_TEXT`, whose stream it adds."""

    def __init__(self, source: Stream, output: OutputContainer) -> None:
        """Raises ValueError where the output takes no such stream."""
        assert isinstance(source.codec_context, SubtitleCodecContext)
        # A decoder of its own: the source's must not remember events of a trial.
        decoder = CodecContext.create(source.codec_context.name, "r")
        assert isinstance(decoder, SubtitleCodecContext)
        decoder.extradata = source.codec_context.extradata
        decoder.open()
        self._decoder = decoder
        self.target = output.add_stream(MOV_TEXT)
        encoder = self.target.codec_context
        assert isinstance(encoder, SubtitleCodecContext)
        # The styles, which the decoder makes up where the source has none.
        encoder.subtitle_header = decoder.subtitle_header
        encoder.time_base = self.target.time_base = MILLISECOND
        self._encoder = encoder

    def convert(self, packet: "Packet[Stream]") -> "Packet[Stream] | None":
        """Return the packet in the target's format, with its time; None for one without text.

        Raises InvalidDataError for text that cannot be decoded.
        """
        decoded = self._decoder.decode2(packet)
        events = [] if decoded is None else [r.ass for r in decoded if isinstance(r, AssSubtitle)]
        if not events or packet.pts is None:
            return None
        # Several at once are the lines of one: an event ends in its text, behind eight commas.
        text = b"\\N".join([events[0], *(event.split(b",", 8)[-1] for event in events[1:])])
        start, length = (
            round(ticks * packet.time_base / MILLISECOND)
            for ticks in (packet.pts, packet.duration or 0)
        )
        made = self._encoder.encode_subtitle(SubtitleSet.create(text, 0, length, start))
        made.pts = made.dts = start
        made.duration, made.time_base = length, MILLISECOND
        return made


def stored_codec(codec: str | None, container_format: str, family: tuple[str, ...]) -> str | None:
    """Name the codec that a container of the MP4 `family` stores a stream of this codec in; the
    same one elsewhere."""
    return MOV_TEXT if codec in TEXT_CODECS and container_format in family else codec
