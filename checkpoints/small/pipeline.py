from .pipeline_vivace import VivacePipeline
