"""An operator who sits at the terminal: gives answers, and is shown what was asked."""

from __future__ import annotations

import pytest

from ocitui.cli import output


def answer(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Somebody sits there and gives these answers; what they were asked is gathered."""
    questions: list[str] = []
    left = iter(answers)

    def ask(question: str) -> str:
        questions.append(question)
        return next(left)

    monkeypatch.setattr(output, "can_ask", lambda: True)
    monkeypatch.setattr(output, "ask", ask)
    return questions
