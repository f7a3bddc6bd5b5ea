"""Documents that lie on disk: the store that holds them, and the values by which they are passed around."""

from rlm_integrations.stored.building import stored_files
from rlm_integrations.stored.documents import StoredDocument, StoredDocuments
from rlm_integrations.stored.pack import Pack, PackSize, write_pack
from rlm_integrations.stored.store import Store

__all__ = ["Pack", "PackSize", "Store", "StoredDocument", "StoredDocuments", "stored_files", "write_pack"]
