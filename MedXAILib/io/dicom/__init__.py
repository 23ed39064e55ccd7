"""DICOM to Volume: classic series, enhanced multi-frame files, single pictures.

Every image of a classic series and every frame of a multi-frame file becomes a :class:`Plane`; :func:`stack` puts
planes in order and refuses what is no regular stack.
"""
