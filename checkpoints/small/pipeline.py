from .vivace_audio import __doc__ as _vivace_audio
from .vivace_callbacks import __doc__ as _vivace_callbacks
from .vivace_conditions import __doc__ as _vivace_conditions
from .vivace_edit import __doc__ as _vivace_edit
from .vivace_level import __doc__ as _vivace_level
from .vivace_midi import __doc__ as _vivace_midi
from .vivace_music import __doc__ as _vivace_music
from .vivace_notes import __doc__ as _vivace_notes
from .vivace_process import __doc__ as _vivace_process
from .vivace_prompt import __doc__ as _vivace_prompt
from .vivace_publish import __doc__ as _vivace_publish
from .vivace_reading import __doc__ as _vivace_reading
from .vivace_recipe import __doc__ as _vivace_recipe
from .vivace_request import __doc__ as _vivace_request
from .vivace_sampling import __doc__ as _vivace_sampling
from .vivace_score import __doc__ as _vivace_score
from .vivace_theory import __doc__ as _vivace_theory
from .pipeline_vivace import VivacePipeline
