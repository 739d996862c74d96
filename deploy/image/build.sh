#!/bin/sh
# Inside the build stage: installs its arguments (pip requirements) into /opt/dragoman, and lists what is there as a
# CycloneDX SBOM in /opt/dragoman/sbom.cdx.json. The environment has no pip, so the image has none of it.
set -eu
python3 -m venv --without-pip /opt/dragoman
python3 -m venv /opt/build
/opt/build/bin/pip install --no-cache-dir --require-virtualenv -r /build/requirements.txt
/opt/build/bin/pip --python /opt/dragoman/bin/python install --no-cache-dir --no-compile -c constraints.txt "$@"
/opt/build/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/dragoman/sbom.cdx.json /opt/dragoman/bin/python
