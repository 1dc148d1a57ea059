import cv2
import numpy as np
from hypothesis import given, settings
from scipy import ndimage

from fncells.cells import trace
from fncells.outlines import ring_roles
from formats.label_maps import label_maps


def test_a_hole_one_pixel_wide_in_a_ring_one_pixel_thick_is_a_hole():
    labels = np.ones((3, 3), dtype=np.int32)
    labels[1, 1] = 0
    [cell] = trace(labels)
    assert sorted(ring_roles(cell.rings)) == ["hole", "outer"]


def test_no_rings_and_equal_rings_have_roles():
    square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]])
    assert ring_roles([]) == ()
    assert ring_roles([square, square]) == ("outer", "hole")


@given(label_maps())
@settings(max_examples=150)
def test_parts_and_holes_are_as_many_as_the_pixels_say(labels):
    for cell in trace(labels):
        roles = ring_roles(cell.rings)
        region = np.pad(labels == cell.number, 1)
        parts = cv2.connectedComponents(region.view(np.uint8), connectivity=8)[0] - 1
        holes = ndimage.label(~region)[1] - 1
        assert (roles.count("outer"), roles.count("hole")) == (parts, holes)
