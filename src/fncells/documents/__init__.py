"""Documents from anywhere, read strictly: nothing in them runs, and what is wrong is one line that names the place."""

from fncells.documents.pickles import read_pickle
from fncells.documents.place import Place, kind, quoted, read_text
from fncells.documents.strict_json import json_text, parse_json, read_json

__all__ = ["Place", "json_text", "kind", "parse_json", "quoted", "read_json", "read_pickle", "read_text"]
