// The entry point: which program is meant is told by the name it was called by.
#include <string>
#include <vector>

#include "cli/process.h"
#include "cli/programs.h"

int main(int count, char** words) {
  using namespace limen::cli;
  limit_thread_stacks();
  const std::string called = count > 0 ? words[0] : "limen";
  const std::string program = called.substr(called.rfind('/') + 1);
  const std::vector<std::string> arguments(words + (count > 0 ? 1 : 0), words + count);
  if (program == "limen-system-x86_64" || program == "qemu-system-x86_64" || program == "kvm")
    return system_main(program, arguments);
  if (program == "limen-img" || program == "qemu-img") return image_main(program, arguments);
  return limen_main(program, arguments);
}
