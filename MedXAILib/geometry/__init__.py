"""Where an image lies in the patient. Geometry is asked and changed here and in tiling.py only.

Terms
-----
array
    Indexed (k, j, i), or (k, j, i, channel) for several channels: k is the slowest axis of the file.
affine
    4x4 float64, maps the *index* (i, j, k, 1) of a voxel's centre to RAS millimetres
    (x to the patient's right, y to the front, z to the head). Its columns are orthogonal.
grid
    The shape (in i, j, k order) and the affine; both can be had in the array's order too.

Not every file says how its image lies in the patient, or how large a pixel is. There is an affine all the same, so that
maps and images keep together; ``Source.assumed`` names what of it was not given, and whoever writes letters, mm, mL or RAS
coordinates asks :attr:`Volume.axes`, :attr:`Volume.unit`, :attr:`Volume.size_unit` and :attr:`Volume.placed` first.
"""
