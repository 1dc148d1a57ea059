"""The paper's three collections, made up: pictures, exact truth, annotations and the lab folder around them.

Sizes and counts follow Table 1 of the paper (Clissa et al., FNC v2); the looks follow what its pictures show. Nothing of a
real picture is in it. `picture` makes one picture with its truth, `draw_scene` one with annotations as well, `synthesise`
a whole lab folder as `fncells build` takes it.
"""

from fncells.synthetic.lab import synthesise
from fncells.synthetic.looks import Challenges
from fncells.synthetic.scene import Scene, draw_scene, picture

__all__ = ["Challenges", "Scene", "draw_scene", "picture", "synthesise"]
