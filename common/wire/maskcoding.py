"""Masks by an entropy coder, for `mask_coding = "ans"`: all but as many bits as a mask of its density has entropy.

A coded mask is how many elements it keeps, as 8 bytes, and behind it the words of 4 bytes of asymmetric numeral
systems (Duda et al. 2015, "The use of asymmetric numeral systems as an accurate replacement for Huffman coding") as
`constriction` makes them; lowest bytes first. A symbol is a byte of the packed mask: where k of its n bits, the last
byte's unused ones among them, are set, a byte with b set bits has the probability (k / n)^b (1 - k / n)^(8 - b).

Both sides must have the same model to the last bit, so it is made of whole numbers: 256 weights that add up to exactly
what constriction shares out. Its scale is then 1, its sums are whole numbers below 2^24, and nothing is rounded.

A step of the coder can be undone and never loses anything: if decoding ends with nothing left, the words are those that
encoding makes of what was decoded, and no others pass.
"""

from typing import Any

import numpy as np

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import ExperimentError, PayloadError
from lotteryfl.common.experiment.settings import MaskCoding
from lotteryfl.common.packedmasks import BLOCK, PackedMask, packed_size

_COUNT = np.dtype("<u8")
_WORD = np.dtype("<u4")

_SHARED_OUT = 2**24 - 256
"""What constriction gives by their weights to 256 symbols, each of which has 1 before: it works with 24 bits."""

_SET_BITS = np.bitwise_count(np.arange(256, dtype=np.uint8))


def require_coder(coding: MaskCoding) -> None:
    """Check that masks can be coded here as the experiment says.

    Raises:
        ExperimentError: what codes them is not installed.
    """
    if coding == "ans":
        _library()


def encode(packed: PackedMask) -> PackedMask | None:
    """Return a mask coded; None: that would not be fewer bytes than packed.

    Raises:
        ExperimentError: the coder is not installed.
    """
    if packed.size <= _COUNT.itemsize:
        return None
    kept, library = packedmasks.count(packed), _library()
    model, coder = _model(library, kept, packed.size), library.stack.AnsCoder()
    for start in reversed(range(0, packed.size, BLOCK)):  # what goes in last comes out first
        coder.encode_reverse(packed[start : start + BLOCK].astype(np.int32), model)
    words = coder.get_compressed().astype(_WORD)
    coded = np.concatenate((np.array([kept], _COUNT).view(np.uint8), words.view(np.uint8)))
    return coded if coded.size < packed.size else None


def decode(coded: PackedMask, numel: int, key: str) -> PackedMask:
    """Return the packed mask that `encode` made `coded` of, and of nothing else.

    Args:
        coded: as received, of any dtype and shape.
        numel: of how many elements the mask must be.
        key: of the entry, for messages.

    Raises:
        PayloadError: it is not what `encode` makes of a mask over so many elements.
        ExperimentError: the coder is not installed.
    """
    size = packed_size(numel)
    fits = coded.dtype == np.uint8 and coded.ndim == 1 and _COUNT.itemsize <= coded.size < size
    if not fits or coded.size % _WORD.itemsize:
        raise PayloadError(
            f"{key}: {coded.dtype} of shape {list(coded.shape)}: a coded mask of {numel} elements is a count of "
            f"{_COUNT.itemsize} bytes and words of {_WORD.itemsize}, together less than {size}"
        )
    kept, words = int(coded[: _COUNT.itemsize].view(_COUNT)[0]), coded[_COUNT.itemsize :].view(_WORD)
    if kept > numel:
        raise PayloadError(f"{key}: keeps {kept} elements as it says, expected at most {numel}")
    if words.size and not words[-1]:
        raise PayloadError(f"{key}: its last word is 0, as no coded mask ends")
    library = _library()
    model, coder = _model(library, kept, size), library.stack.AnsCoder(words.astype(np.uint32))
    packed = np.empty(size, np.uint8)
    for start in range(0, size, BLOCK):
        block = packed[start : start + BLOCK]
        block[:] = coder.decode(model, block.size)
    if not coder.is_empty():
        raise PayloadError(f"{key}: {coded.size} bytes: not what a mask of {numel} elements, {kept} kept, is coded as")
    packedmasks.check(packed, numel, key)
    if (found := packedmasks.count(packed)) != kept:
        raise PayloadError(f"{key}: keeps {found} elements, expected {kept} as it says")
    return packed


def _model(library: Any, kept: int, size: int) -> Any:
    """Return what each of a mask's `size` bytes is expected to be."""
    bits = 8 * size
    by_set_bits = [_SHARED_OUT * kept**b * (bits - kept) ** (8 - b) // bits**8 for b in range(9)]
    weights = np.array(by_set_bits)[_SET_BITS]
    weights[0 if 2 * kept < bits else 255] += _SHARED_OUT - weights.sum()  # what rounding down has left
    return library.model.Categorical(weights.astype(np.float64), perfect=False)


def _library() -> Any:
    try:
        from constriction import stream
    except ImportError as error:
        raise ExperimentError(
            "mask_coding = 'ans': constriction is not installed here: pip install 'lotteryfl[coding]', or choose packed"
        ) from error
    return stream
