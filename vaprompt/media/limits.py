"""What a media file may ask for at most, so that a damaged or hostile one is refused before it takes memory or days.

All of them lie far above what cameras record; whoever meets one has a broken header, or a file to cut into pieces.
"""

from __future__ import annotations

LARGEST_PICTURE = 8192 * 8192
"""Pixels: 200 MB as bytes. Twice the area of 8K video."""
LONGEST_SIDE = 32
"""Times the shorter side of a picture. Resized to an encoder's 224 on the shorter side, thin strips would explode."""
MOST_UNEVEN = 8.0
"""Width of a pixel over its height, or the reverse. No camera comes near: a header that says more is not believed."""
LARGEST_PICTURE_FILE = 2**28
"""Bytes of a jpg or png, which is read whole: the largest picture, uncompressed, and some more. A crop has 5 kB."""
MOST_SCANS = 100
"""Passes over a progressive jpg; usual are 10. Each can be 20 bytes long and cost a second of time."""
MOST_CROPS = 1_000_000
"""Files in a folder of crops, some 400 bytes of memory each: nine hours at 30 frames a second."""
LONGEST_VIDEO = 24 * 3600.0
"""Seconds. A grid of audio windows is laid over a video's length: a stray time stamp must not make it a year."""
LONGEST_GAP = 600.0
"""Seconds between two frames. Longer ones are stray time stamps, and would be filled with windows of silence."""
MOST_FRAMES = 10_000_000
"""Times of all frames are held in memory, 8 bytes each: 115 frames a second for the longest video."""
SOUND_RATES = (4000, 768_000)
"""Samples a second, from the least to the most: a lower rate would grow a thousandfold when brought to 16 kHz."""
MOST_CHANNELS = 64
"""Channels of sound: seventh-order ambisonics. Headers can claim 65,535."""
MOST_SAMPLES = 2**18
"""Samples of one piece of sound, as a file is cut into: 5 s. Codecs use 0.02 to 0.1 s, uncompressed sound up to 1 s."""
BACKWARDS_SOUND = 1.0
"""Seconds by which sound may start before the end of what went before; more is a stray time stamp."""
