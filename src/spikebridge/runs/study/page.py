"""A study's table and figures put into a page, between two comments."""

import re
from collections.abc import Sequence
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.base.files import write_text


def update_page(
    page: Path, name: str, table: str, figures: Sequence[tuple[str, Path]], command: str
) -> None:
    """Replace what stands between the comments of a study; figures are copied to ``study/``.

    Args:
        page: A Markdown file.
        name: The study's name.
        table: Markdown.
        figures: A sentence and an SVG file each.
        command: What makes this text, for the opening comment.

    Raises:
        UserError: the page cannot be read, or has no such place, or has several.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{page}: cannot be read ({error}); name a Markdown file") from error
    opening, closing = f'<!-- study {name}: made by "{command}" -->', f"<!-- end study {name} -->"
    place = re.compile(
        rf"<!-- study {re.escape(name)}:(?:(?!-->).)*-->.*?{re.escape(closing)}", re.DOTALL
    )
    if len(place.findall(text)) != 1:
        raise UserError(
            f"{page}: has {len(place.findall(text))} places for this study; write these two lines "
            f"once where its table is to stand: {opening} and {closing}"
        )
    pictures = []
    for sentence, figure in figures:
        copy = page.parent / "study" / f"{name}-{figure.name}"
        write_text(copy, figure.read_text(encoding="utf-8"))
        pictures.append(f"![{sentence}](study/{copy.name})")
    parts = [opening, table.strip(), *pictures, closing]
    write_text(page, place.sub(lambda _: "\n\n".join(parts), text))
