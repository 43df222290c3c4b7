"""The bits of headers in coded video, most significant first."""


class UnreadableHeaderError(Exception):
    """A header that is cut off, or holds what is not read. Readers of quantizers catch it."""


class HeaderBits:
    """Numbers out of bytes, one behind the other; `UnreadableHeaderError` behind the last."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def u(self, count: int) -> int:
        """An unsigned number of `count` bits."""
        if count > self._left:
            raise UnreadableHeaderError("cut off")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def flag(self) -> bool:
        """One bit."""
        return self.u(1) == 1

    def ue(self) -> int:
        """An unsigned Exp-Golomb code (ITU-T H.265, 9.2)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise UnreadableHeaderError("no such code")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """A signed Exp-Golomb code."""
        code = self.ue()
        # Odd codes are positive, even ones negative (9.2.2).
        return (code + 1) // 2 if code % 2 else -(code // 2)
