"""The artifact types: sealed folders, addressed by path, identified by content."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import DamagedArtifact, WrongArtifact
from data_contracts.files import FileEntry, digest_of, digest_of_files, hash_file
from data_contracts.manifest import Manifest, read_manifest

REBUILD_HINT = "delete that folder and run again, or `tsuzuki verify STORE --repair`; it is rebuilt from its inputs"


class Part(BaseModel):
    """Some files of an artifact (a model's tokenizer, say), identified by their own content."""

    model_config = ConfigDict(frozen=True)

    path: Path = Field(description="Folder of the artifact.")
    digest: str = Field(description="Digest over the part's files.")
    name: str = Field(description="Name of the part.")


class Artifact(BaseModel):
    """A sealed folder. Open it with `Type.open(path)`, which refuses anything else."""

    model_config = ConfigDict(frozen=True)

    kind: ClassVar[str]
    version: ClassVar[int]
    volatile: ClassVar[tuple[str, ...]] = ("logs/*",)
    """Files that tell how a run went (times, speeds): hashed and verified, but not part of the content digest."""

    path: Path = Field(description="Folder of the artifact.")
    digest: str = Field(description="Content digest.")

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """The artifact at `path`, after its kind, version, digest and file sizes were checked.

        Raises MissingArtifact, WrongArtifact or DamagedArtifact. Content hashes are `verify_files`'s work.
        """
        path = Path(path)
        manifest = read_manifest(path)
        found = (manifest.kind, manifest.contract_version)
        if found != (cls.kind, cls.version):
            raise WrongArtifact(
                f"`{path}`: found {found[0]} version {found[1]}, expected {cls.kind} version {cls.version}",
                hint="pass the artifact of the right stage; `tsuzuki inspect PATH` says what a folder holds",
            )
        if cls.content_digest(manifest.files) != manifest.digest:
            raise DamagedArtifact(f"`{path}`: the manifest's digest does not fit its own file list", hint=REBUILD_HINT)
        check_sizes(path, manifest)
        return cls(path=path, digest=manifest.digest)

    @classmethod
    def content_digest(cls, files: list[FileEntry]) -> str:
        """Digest over kind, version and every file that is not volatile."""
        return digest_of([cls.kind, cls.version, digest_of_files(f for f in files if not cls.is_volatile(f.name))])

    @classmethod
    def is_volatile(cls, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in cls.volatile)

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.path)

    def part(self, name: str, *patterns: str) -> Part:
        """The files whose names fit a glob of `patterns`, as an input of their own."""
        entries = [f for f in self.manifest.files if any(fnmatchcase(f.name, p) for p in patterns)]
        return Part(path=self.path, digest=digest_of_files(entries), name=name)


def check_sizes(path: Path, manifest: Manifest) -> None:
    """Raises DamagedArtifact for the first file that is missing or of another size than sealed."""
    for entry in manifest.files:
        try:
            size = (path / entry.name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise DamagedArtifact(
                f"`{path / entry.name}`: missing, expected {entry.bytes} bytes", hint=REBUILD_HINT
            ) from None
        if size != entry.bytes:
            raise DamagedArtifact(
                f"`{path / entry.name}`: found {size} bytes, expected {entry.bytes}", hint=REBUILD_HINT
            )


def verify_files(path: Path) -> Manifest:
    """The manifest of an artifact whose every file was read again and has the sealed hash.

    Raises DamagedArtifact with the first file that differs.
    """
    manifest = read_manifest(path)
    type_named(manifest.kind).open(path)
    for entry in manifest.files:
        found = hash_file(path / entry.name, entry.name)
        if found.sha256 != entry.sha256:
            raise DamagedArtifact(
                f"`{path / entry.name}`: found sha256 {found.sha256[:12]}…, expected {entry.sha256[:12]}…",
                hint=REBUILD_HINT,
            )
    return manifest


class RawCorpus(Artifact):
    """`documents/*.parquet` as the source gave them, `quarantine.parquet`, `sources.json`, and `truth/` if known."""

    kind: ClassVar[str] = "raw_corpus"
    version: ClassVar[int] = 2

    def shards(self, split: str | None = None) -> list[Path]:
        return document_shards(self.path, split)


class Corpus(Artifact):
    """`documents/<split>-NNNNN.parquet` that were kept and `ledger.parquet` with every removed one.

    From the filter stage also `edits.parquet`, what was taken out of texts, and `histograms.json`, scores by filter.
    """

    kind: ClassVar[str] = "corpus"
    version: ClassVar[int] = 1

    def shards(self, split: str | None = None) -> list[Path]:
        return document_shards(self.path, split)

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.parquet"


class TokenDataset(Artifact):
    """Megatron `<prefix>{train,validation}_text_document.{bin,idx}` and `<split>_tokens.parquet` per document."""

    kind: ClassVar[str] = "token_dataset"
    version: ClassVar[int] = 1

    def prefix(self, split: str) -> Path:
        """Path of a split's token files without `.bin` or `.idx`.

        Raises DamagedArtifact if the artifact holds no such split.
        """
        found = sorted(self.path.glob(f"*{split}_text_document.idx"))
        if len(found) != 1:
            raise DamagedArtifact(
                f"`{self.path}`: found {len(found)} files *{split}_text_document.idx, expected 1", hint=REBUILD_HINT
            )
        return found[0].with_suffix("")


class HfModel(Artifact):
    """A Hugging Face model folder: `config.json`, safetensors, tokenizer, generation config; `logs/` of a training."""

    kind: ClassVar[str] = "hf_model"
    version: ClassVar[int] = 1

    @property
    def tokenizer(self) -> Part:
        return self.part(
            "tokenizer",
            "tokenizer*",
            "special_tokens_map.json",
            "vocab.json",
            "merges.txt",
            "added_tokens.json",
            "*.model",
        )


class NemoCheckpoint(Artifact):
    """A model as NeMo 2.x keeps it: `weights/` as megatron-core saves them, `context/` with config and tokenizer."""

    kind: ClassVar[str] = "nemo_checkpoint"
    version: ClassVar[int] = 1
    volatile: ClassVar[tuple[str, ...]] = ("logs/*", "weights/.metadata")
    """Megatron's plan of the weights is a pickle whose bytes differ from run to run; the weights' do not."""


class InstructionSet(Artifact):
    """`train.jsonl` and `validation.jsonl` of `{"prompt", "response", "document"}` rows."""

    kind: ClassVar[str] = "instruction_set"
    version: ClassVar[int] = 1


class Adapter(Artifact):
    """A peft adapter folder: `adapter_config.json`, `adapter_model.safetensors`; `logs/` of its training."""

    kind: ClassVar[str] = "adapter"
    version: ClassVar[int] = 1


class EvalReport(Artifact):
    """`evaluation.json` (figures per model), `generations.jsonl`, and `logs/speed.json`."""

    kind: ClassVar[str] = "eval_report"
    version: ClassVar[int] = 1


class Delivery(Artifact):
    """`model/`, `adapter/`, `evaluation/`, `README.md` (model card), `report.html`, `SHA256SUMS`."""

    kind: ClassVar[str] = "delivery"
    version: ClassVar[int] = 1
    volatile: ClassVar[tuple[str, ...]] = ("logs/*", "report.html", "SHA256SUMS", "evaluation/logs/*")


ARTIFACT_TYPES: dict[str, type[Artifact]] = {
    cls.kind: cls
    for cls in (RawCorpus, Corpus, TokenDataset, HfModel, NemoCheckpoint, InstructionSet, Adapter, EvalReport, Delivery)
}


def type_named(kind: str) -> type[Artifact]:
    """The artifact type of that kind. Raises WrongArtifact for an unknown one."""
    try:
        return ARTIFACT_TYPES[kind]
    except KeyError:
        raise WrongArtifact(
            f"`{kind}`: unknown artifact kind, expected one of {', '.join(sorted(ARTIFACT_TYPES))}",
            hint="the store may come from a newer version of tsuzuki",
        ) from None


def document_shards(folder: Path, split: str | None) -> list[Path]:
    """The parquet shards under `documents/`, sorted by name; those of one split if it is named."""
    return sorted((folder / "documents").glob(f"{split or '*'}-*.parquet"))
