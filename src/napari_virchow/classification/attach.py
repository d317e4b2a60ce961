"""What a session has of labels and classification, made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from napari_virchow.classification import Classification
from napari_virchow.classification.facts import Applied, ApplyOptions, ApplyProgress
from napari_virchow.classification.rollout import Rollout
from napari_virchow.classify import TileClassifier
from napari_virchow.classify.predictions import Predictions
from napari_virchow.labels import LabelSet
from napari_virchow.labels.journal_file import default_annotator, default_journal
from napari_virchow.training import Trained, read_label_files, train

if TYPE_CHECKING:
    from napari_virchow.session import Session
    from napari_virchow.slide import Slide


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

    def train_classifier(
        self, labels: Sequence[Path] = (), *, encoder: str | None = None, mpp: float | None = None
    ) -> Trained:
        """Train on labels of embedded tiles, and say honestly how good it is; blocks.

        ``trained.classifier.save(folder)`` keeps it.

        Parameters
        ----------
        labels : sequence of Path
            CSV files and journals; this session's own labels if there are none.
        encoder : str, optional
            Name or identity; the session's if left out, else "texture".
        mpp : float, optional
            Take the labels of tiles at this magnification; needed where there are several.

        Raises
        ------
        TrainingError
            If there are no such labels, or their tiles are not embedded.
        JournalError, ValueError
            If a file cannot be read.
        """
        if labels:
            rows, classes = read_label_files(labels)
        else:
            rows, classes = self.labels.rows(), list(self.labels.classes)
        if mpp is not None:
            rows = [row for row in rows if row.grid.endswith(f"-{mpp:g}mpp")]
        if encoder is None:
            loaded = cast("Session", self).encoder
            encoder = "texture" if loaded is None else loaded.identity
        return train(rows, classes, self.store, encoder)

    def apply_classifier(
        self,
        classifier: TileClassifier | Path | str,
        slides: Sequence[Slide],
        *,
        out: Path | None = None,
        how: ApplyOptions | None = None,
        on_progress: Callable[[ApplyProgress], object] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Applied]:
        """Embed what is missing of slides, and classify all of it; blocks.

        Parameters
        ----------
        classifier : TileClassifier, Path or str
            Or the folder of a saved one.
        slides : sequence of Slide
            Open in this session.
        out : Path, optional
            Folder for one file per slide, named after it.
        how : ApplyOptions, optional
            Format of the files, what is unknown, whether to embed.

        Returns
        -------
        list of Applied
            One per slide; fewer if it was cancelled.

        Raises
        ------
        ModelError
            If it cannot be read, or the encoder of this session is not the one it was made for.
        EncoderUnavailable
            If its encoder is needed and cannot be had.
        SlideError
            If a slide has no pixel size, is coarser than the classifier's tiles or unreadable.
        OSError
            If a file cannot be written.
        """
        made = _loaded(classifier)
        told = (on_progress, cancelled)
        rollout = Rollout(cast("Session", self), made, self._labels, how or ApplyOptions(), *told)
        return rollout.run(slides, made.card.mpp, out)

    def predict_tiles(
        self, classifier: TileClassifier | Path | str, slide: Slide
    ) -> tuple[NDArray[np.int32], Predictions]:
        """Return what a classifier says of the tiles of a slide that are embedded.

        Returns
        -------
        tiles : ndarray of shape (n, 2)
            Row and column of each tile.
        predictions : Predictions
            Of the same n tiles.

        Raises
        ------
        ModelError, SlideError
            As `apply_classifier` does.
        """
        made = _loaded(classifier)
        return Rollout(cast("Session", self), made, None).predict(slide, made.card.mpp)

    def _close_attached(self) -> None:
        """Close what was made; other parts of a session that follow it do theirs first."""
        with self._making:
            classification, self._classification = self._classification, None
            labels, self._labels = self._labels, None
        if classification is not None:
            classification.close()
        if labels is not None:
            labels.close()


def _loaded(classifier: TileClassifier | Path | str) -> TileClassifier:
    if isinstance(classifier, TileClassifier):
        return classifier
    return TileClassifier.load(classifier)
