"""Pretrain an encoder on slides: DINOv2 with the changes of Virchow2. Imports torch."""

from napari_virchow.pretrain.config import Config, PretrainError, read_config
from napari_virchow.pretrain.train import Trained, config_of, train

__all__ = ["Config", "PretrainError", "Trained", "config_of", "read_config", "train"]
