from .api import Segmentation as Segmentation
from .api import segment as segment
from .inference import open_store as open_store
from .inference import segment_slide as segment_slide
from .models import list_models as list_models
from .models import load_model as load_model
from .results import MaskStore as MaskStore
from .slides import Region as Region
from .slides import open_slide as open_slide
from .tissue import TissueClass as TissueClass
from .tissue import TissueClasses as TissueClasses

__version__: str
