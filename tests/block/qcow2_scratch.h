// What the tests of qcow2 share: images with many kinds of options, and qemu-img as the judge.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "block/image_tool.h"
#include "block/open_image.h"
#include "block/qcow2/create.h"
#include "block/scratch.h"

namespace limen::block {

/// Exit status and what was printed.
inline std::pair<int, std::string> run_command(const std::string& command) {
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  std::string text;
  char buffer[256];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) text += buffer;
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text};
}

inline bool have_qemu_img() { return run_command("command -v qemu-img").first == 0; }

inline void make_qcow2(const std::string& path, const qcow2::CreateOptions& options) {
  ASSERT_TRUE(create_image(path, 0));
  if (!options.data_file.empty()) {
    ASSERT_TRUE(create_image(options.data_file, options.data_file_raw ? options.size : 0));
  }
  const auto file = FileLayer::open(path, {}).value();
  const auto made = qcow2::create(*file, options);
  ASSERT_TRUE(made) << made.error().message;
}

inline std::unique_ptr<qcow2::Image> open_for_test(const std::string& path,
                                                   bool read_only = false) {
  auto image = open_qcow2(path, {.file = {.read_only = read_only}});
  EXPECT_TRUE(image) << image.error().message;
  return image ? std::move(*image) : nullptr;
}

/// qemu-img check says that all is well (or that clusters leak, if they may).
inline void expect_sound(const std::string& path, bool leaks_allowed = false) {
  const auto [status, text] = run_command("qemu-img check -f qcow2 '" + path + "'");
  EXPECT_TRUE(status == 0 || (leaks_allowed && status == 3)) << status << "\n" << text;
}

}  // namespace limen::block
