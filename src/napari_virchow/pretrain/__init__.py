"""Pretrain an encoder on slides: DINOv2 with the changes of Virchow2; `train.train` does it."""

from napari_virchow.pretrain.config import Config, PretrainError, read_config

__all__ = ["Config", "PretrainError", "read_config"]
