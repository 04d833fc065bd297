"""Everything a round imports, and nothing run: the process that children are forked from."""

import os

import great_expectations.render.renderer.site_builder
import great_expectations.render.view  # noqa: F401
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store
import onnx  # noqa: F401
import onnxruntime  # noqa: F401
import peft  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401

import penstock.pipeline.online  # noqa: F401

if os.environ.get("PENSTOCK_FAULTS") != "full":
    mlflow.store.db.utils.MAX_RETRY_COUNT = 3  # it asks a database that is gone ten times, for two minutes
