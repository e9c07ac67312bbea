// limen-bench: the programs that scripts/bench runs natively and in machines.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "measure.h"

namespace {

int usage(std::FILE* stream) {
  std::fputs(
      "usage: limen-bench [--seconds S] ROW [ARGUMENT...]\n"
      "Prints `ROW VALUE ns per OPERATION`. The rows:\n",
      stream);
  for (const bench::Row& row : bench::all_rows()) {
    std::fprintf(stream, "  %-16.*s per %.*s\n", static_cast<int>(row.name.size()), row.name.data(),
                 static_cast<int>(row.operation.size()), row.operation.data());
  }
  return stream == stdout ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  // What fork-exec runs.
  if (argc == 2 && std::strcmp(argv[1], "--nothing") == 0) return 0;
  bench::Request request;
  int index = 1;
  if (argc > 2 && std::strcmp(argv[1], "--seconds") == 0) {
    char* end = nullptr;
    request.seconds = std::strtod(argv[2], &end);
    if (*end != '\0' || request.seconds <= 0) {
      std::fprintf(stderr, "limen-bench: error: '%s' is no number of seconds\n", argv[2]);
      return 1;
    }
    index = 3;
  }
  if (index < argc && std::strcmp(argv[index], "--help") == 0) return usage(stdout);
  if (index >= argc) return usage(stderr);
  const std::string_view name = argv[index];
  request.arguments.assign(argv + index + 1, argv + argc);
  const auto rows = bench::all_rows();
  const auto row = std::ranges::find(rows, name, &bench::Row::name);
  if (row == rows.end()) {
    std::fprintf(stderr, "limen-bench: error: there is no row '%s'; --help lists them\n",
                 argv[index]);
    return 1;
  }
  std::printf("%.*s %.3f ns per %.*s\n", static_cast<int>(row->name.size()), row->name.data(),
              row->run(request), static_cast<int>(row->operation.size()), row->operation.data());
  return 0;
}
