"""An image: immutable content that machines start from."""

from garbi.hyper_api.images import Image as Image
from garbi.hyper_api.vocabulary import ImageState as ImageState
from garbi.hyper_api.vocabulary import ImageType as ImageType
