from .pipeline_vivace import VivacePipeline
from .vivace_grid import __doc__ as _vivace_grid
from .vivace_noise import __doc__ as _vivace_noise
from .vivace_prompt import __doc__ as _vivace_prompt
from .vivace_publish import __doc__ as _vivace_publish
from .vivace_text import __doc__ as _vivace_text
from .vivace_theory import __doc__ as _vivace_theory
