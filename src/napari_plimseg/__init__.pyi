from .api import Segmentation as Segmentation
from .api import segment as segment
from .inference.engine import open_store as open_store
from .inference.engine import segment_slide as segment_slide
from .models.library import list_models as list_models
from .models.loading import load_model as load_model
from .results.mask_store import MaskStore as MaskStore
from .slides.opening import open_slide as open_slide
from .slides.slide import Region as Region
from .tissue import TissueClass as TissueClass
from .tissue import TissueClasses as TissueClasses

__version__: str
