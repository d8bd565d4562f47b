#!/bin/sh
# Generates a client of each API with openapi-generator, and compiles `Operate`. The clients need
# only Jackson, which is in the jar of the generator.
set -eu
cd "$(dirname "$0")"
rm -rf generated
for api in admin public; do
    openapi-generator-cli generate -g java --library native -i ../../openapi/$api.json -o generated/$api \
        --invoker-package fullon_$api --api-package fullon_$api.api --model-package fullon_$api.model \
        --additional-properties openApiNullable=false,containerDefaultToNull=true
done
jar=$(python3 -c 'from importlib.resources import files; print(files("openapi_generator_cli"))')/openapi-generator.jar
ln -s "$jar" generated/jackson.jar
find . -path '*/src/test' -prune -o -name '*.java' -print >generated/sources
# The generated code has warnings of three kinds.
javac -Xlint:all,-cast,-deprecation,-serial -proc:none -Werror -cp generated/jackson.jar -d generated/classes @generated/sources
