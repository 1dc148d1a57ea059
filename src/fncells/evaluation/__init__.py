"""How well predicted cells agree with true ones, and people with each other: segmentation, detection and counting.

The rule ``one-to-one``: a true and a predicted cell can be a pair at an IoU of at least the threshold (segmentation), or with
their centres no farther apart than the distance (detection). Of all ways to pair them off, each cell at most once, those with
the most pairs are best, and among them the one with the greatest total IoU or the least total distance.

- IoU is that of the cells' own pixels, so overlapping cells are each taken whole.
- Dots have no area. They are matched in detection alone: segmentation neither pairs nor counts them, and leaves out a picture
  with nothing but dots on one side, which says nothing of outlines.
- An empty picture is a picture like any other: all that the other side has there is missed or extra. A picture that is empty on
  both sides adds nothing to the pooled scores and an error of 0 to the counting.
- Scores are pooled: true positives, false positives and false negatives are summed over the pictures first. A score with
  nothing to divide by is None.

The rule ``published`` repeats the evaluation that came with the archive (Clissa et al., FNC v2), faults and all, see
:mod:`fncells.evaluation.published_rule`.

::

    settings ─ tally ─> matching ─┬─ mistakes ──┐
                                  ├─ published_rule ─ resampling ─> scores ─> contests ─┬─ comparing ─> tables
              annotations ────────┴─ consensus ─────────────────────────────────────────┴─ agreement
"""

from fncells.evaluation.agreement import Agreement, agree
from fncells.evaluation.annotations import Annotation, read_groups, read_side
from fncells.evaluation.comparing import Comparison, Difference, compare, evaluate
from fncells.evaluation.consensus import majority, staple
from fncells.evaluation.matching import Matching, match_centres, match_iou, match_labels, overlaps
from fncells.evaluation.mistakes import Mistakes
from fncells.evaluation.scores import Counting, Evaluation, PictureScore
from fncells.evaluation.settings import EvaluateSettings
from fncells.evaluation.tables import score_table
from fncells.evaluation.tally import Tally

__all__ = [
    "Agreement",
    "Annotation",
    "Comparison",
    "Counting",
    "Difference",
    "EvaluateSettings",
    "Evaluation",
    "Matching",
    "Mistakes",
    "PictureScore",
    "Tally",
    "agree",
    "compare",
    "evaluate",
    "majority",
    "match_centres",
    "match_iou",
    "match_labels",
    "overlaps",
    "read_groups",
    "read_side",
    "score_table",
    "staple",
]
