"""UTF-8 bytes as tokens, which need no vocabulary."""

from collections.abc import Sequence

import numpy as np

from multimodal.data.tokenizers.tokenizer import room, rows


class ByteTokenizer:
    """Every byte of the UTF-8 text is a token; ids 0 to 3 are pad, start, end and mask."""

    pad_id, start_id, end_id, mask_id = 0, 1, 2, 3
    vocab_size = 260
    fingerprint = "bytes"
    file = None
    _offset = 4

    def encode_batch(
        self, texts: Sequence[str], length: int, add_start: bool = True, add_end: bool = True
    ) -> np.ndarray:
        # No more characters than bytes fit, so a huge text costs nothing.
        most = room(length, add_start, add_end)
        raw = [text[:length].encode("utf-8", "replace")[:most] for text in texts]
        counts = np.fromiter(map(len, raw), np.int64, len(raw))
        tokens = np.frombuffer(b"".join(raw), np.uint8).astype(np.int32) + self._offset
        return rows(self, tokens, counts, length, add_start, add_end)

    def decode(self, ids: Sequence[int]) -> str:
        raw = bytearray()
        for i in map(int, ids):
            if i == self.end_id:
                break
            if i >= self._offset:
                raw.append(i - self._offset)
        return raw.decode("utf-8", "replace")

    def pieces(self, text: str) -> list[tuple[int, str]]:
        raw = text.encode("utf-8", "replace")
        return [(byte + self._offset, repr(bytes([byte]))[2:-1]) for byte in raw]

    def tokens(self) -> list[str | None]:
        return ["<pad>", "<start>", "<end>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
