"""What a session has of labels and classification, made when it is first asked for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

from napari_virchow.classification import Classification
from napari_virchow.labels import LabelSet
from napari_virchow.labels.journal_file import default_annotator, default_journal

if TYPE_CHECKING:
    from napari_virchow.session import Session


class HasClassification:
    """The part of a `Session` that labels and classifies."""

    store: Path

    def __init__(self) -> None:
        self._making = threading.RLock()
        self._labels: LabelSet | None = None
        self._classification: Classification | None = None

    @property
    def labels(self) -> LabelSet:
        """This user's labels, kept in ``<store>/labels``; opened on first use, which reads a file.

        Raises
        ------
        JournalBusy
            If another program has them open.
        JournalError
            If they cannot be read.
        """
        with self._making:
            if self._labels is None:
                annotator = default_annotator()
                journal = self.store / "labels" / default_journal(annotator).name
                self._labels = LabelSet(journal, annotator=annotator)
            return self._labels

    @property
    def classification(self) -> Classification:
        """The classifier that follows `labels`; made on first use. Raises as `labels` does."""
        with self._making:
            if self._classification is None:
                labels = self.labels
                self._classification = Classification(cast("Session", self), labels)
            return self._classification

    def _close_attached(self) -> None:
        """Close what was made; other parts of a session that follow it do theirs first."""
        with self._making:
            classification, self._classification = self._classification, None
            labels, self._labels = self._labels, None
        if classification is not None:
            classification.close()
        if labels is not None:
            labels.close()
