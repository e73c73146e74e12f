"""The data of an infinite query: pages, each beside the parameter that it was asked for with."""

from typing import Generic, TypeVar

from msgspec import Struct

__all__ = ["InfiniteData"]

Page_co = TypeVar("Page_co", covariant=True)
Param_co = TypeVar("Param_co", covariant=True)


class InfiniteData(Struct, Generic[Page_co, Param_co], frozen=True):
    """The data of an infinite query.

    Raises:
        ValueError: there are not as many pages as parameters.

    Example:
        >>> data = InfiniteData((["a", "b"], ["c"]), (0, 1))
        >>> [item for page in data.pages for item in page]
        ['a', 'b', 'c']
    """

    pages: tuple[Page_co, ...]
    page_params: tuple[Param_co, ...]
    """What each page was asked for with."""

    def __post_init__(self) -> None:
        if len(self.pages) != len(self.page_params):
            raise ValueError(
                f"InfiniteData has a parameter for each page, not {len(self.page_params)} for {len(self.pages)} pages"
            )
