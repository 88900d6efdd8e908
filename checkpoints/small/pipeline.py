from .composer_vivace import __doc__ as _composer_vivace
from .vivace_audio import __doc__ as _vivace_audio
from .vivace_checkpoint import __doc__ as _vivace_checkpoint
from .vivace_compose import __doc__ as _vivace_compose
from .vivace_files import __doc__ as _vivace_files
from .vivace_music import __doc__ as _vivace_music
from .vivace_notes import __doc__ as _vivace_notes
from .vivace_process import __doc__ as _vivace_process
from .vivace_reading import __doc__ as _vivace_reading
from .vivace_request import __doc__ as _vivace_request
from .vivace_sampling import __doc__ as _vivace_sampling
from .vivace_score import __doc__ as _vivace_score
from .vivace_stages import __doc__ as _vivace_stages
from .vivace_theory import __doc__ as _vivace_theory
from .vivace_tokens import __doc__ as _vivace_tokens
from .pipeline_vivace import VivacePipeline
