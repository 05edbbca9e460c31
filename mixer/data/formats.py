"""The image formats that are read, by Pillow's names, and the endings of their files."""

_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
FORMATS = tuple(_ENDINGS)
SUFFIXES = tuple(ending for endings in _ENDINGS.values() for ending in endings)
