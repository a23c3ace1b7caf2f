"""docs/reference/settings.md says of each setting what the code says, and of no other."""

import re
from pathlib import Path

from pydantic.fields import FieldInfo

from registry.settings import Settings, variable_of, variables

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
ROW = re.compile(r"^\| `(?P<name>TIDEWAITER_\w+)` \| (?P<default>.*?) \| (?P<meaning>.*) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, str]]:
    return {found["name"]: (found["default"], found["meaning"]) for found in ROW.finditer(PAGE.read_text())}


def shown_default(field: FieldInfo) -> str:
    words = {
        "True": "`on`",
        "False": "`off`",
        "None": "",
        "()": "",
        "var": "`./var`",
        "10737418240": "`10GiB`",
    }
    return words.get(str(field.default), f"`{field.default}`")


def test_every_setting_stands_on_the_page_with_default_and_meaning() -> None:
    for name, field in Settings.model_fields.items():
        default, meaning = rows()[variable_of(name)]
        assert meaning == field.description, name
        assert default.replace("unset", "").replace("unlimited", "") == shown_default(field), name


def test_the_page_names_no_setting_that_is_not_one() -> None:
    named = set(re.findall(r"TIDEWAITER_\w+", PAGE.read_text()))
    assert named == set(variables())
