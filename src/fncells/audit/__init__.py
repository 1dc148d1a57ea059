"""What is wrong in an archive or in annotations: the paper's technical validation, and what it did not look for.

`audit_archive` and `audit_annotations` give `Finding` values: what, where, why it matters and what to do. Nothing is changed.
"""

from fncells.audit.annotations import audit_annotations
from fncells.audit.archives import audit_archive
from fncells.audit.finding import Finding

__all__ = ["Finding", "audit_annotations", "audit_archive"]
