"""What a user can set about object stores; a part of ``settings``."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from nightkiln.blobs.s3_place import S3Access
from nightkiln.core.terms import Upload


class S3Settings(BaseSettings):
    """How an object store is reached; what is not set is taken from where AWS clients look."""

    s3_endpoint_url: str = Field(
        "",
        max_length=500,
        pattern=r"^(https?://[^\s/@?#]+/?)?$",
        description="Where it answers, if it is not AWS; else AWS_ENDPOINT_URL.",
    )
    s3_region: str = Field(
        "", pattern=r"^[a-z0-9-]{0,40}$", description="Its region; else AWS_REGION, ~/.aws/config."
    )
    s3_profile: str = Field(
        "",
        pattern=r"^[A-Za-z0-9 ._@+-]{0,100}$",
        description="Profile of ~/.aws with the credentials; else AWS_PROFILE.",
    )
    s3_path_style: bool | None = Field(
        None,
        description="Whether the bucket stands in the path; else: yes, unless it is AWS itself.",
    )
    s3_access_key_id: SecretStr | None = Field(
        None, description="Credentials; else AWS_ACCESS_KEY_ID, ~/.aws, the machine's role."
    )
    s3_secret_access_key: SecretStr | None = Field(
        None, description="Its secret; else AWS_SECRET_ACCESS_KEY. Never shown."
    )
    s3_session_token: SecretStr | None = Field(
        None, description="For temporary credentials; else AWS_SESSION_TOKEN. Never shown."
    )
    s3_spool_gb: float = Field(
        2.0,
        ge=0,
        le=1000,
        description="GB of results that may wait on this computer for a slow object store, in the "
        "state folder; 0: each machine waits until its result is in the store.",
    )

    upload: Upload = Field(
        Upload.THROUGH,
        description="How results get into an object store: through this computer, or direct, by "
        "the machines that can bring them.",
    )

    @property
    def is_direct(self) -> bool:
        """Whether machines bring what they can."""
        return self.upload is Upload.DIRECT

    @property
    def spool_bytes(self) -> int:
        """The same in bytes."""
        return round(self.s3_spool_gb * 1e9)

    @property
    def s3_access(self) -> S3Access:
        """The same for the store."""

        def bare(secret: SecretStr | None) -> str:
            return secret.get_secret_value() if secret is not None else ""

        return S3Access(
            endpoint_url=self.s3_endpoint_url,
            region=self.s3_region,
            profile=self.s3_profile,
            is_path_style=self.s3_path_style,
            access_key_id=bare(self.s3_access_key_id),
            secret_access_key=bare(self.s3_secret_access_key),
            session_token=bare(self.s3_session_token),
        )
