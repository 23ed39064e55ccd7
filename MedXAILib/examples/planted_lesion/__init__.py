"""A lesion planted at a known place in a real head, and the small network that was trained to see it.

``planting.py`` plants lesions and ``demo.py`` shows the network at work on one. How the network came about: ``heads.py`` reads the
heads that ``heads.toml`` names, ``synthesis.py`` deforms them and plants lesions in each, ``augmentation.py`` makes the pairs of a
training step of them, ``training.py`` trains, ``evaluation.py`` measures, ``card.py`` says what came of it.
"""

NAME = "planted-lesion"
"""Of the network, in the zoo and on its card."""
SAMPLES = 400
"""Of LIME: fewer than its default of ten for each superpixel, so that the demo ends within a minute on two cores."""
