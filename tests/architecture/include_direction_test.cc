// The rooms of src/ include each other in one direction only (docs/architecture.md).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

namespace limen {
namespace {

namespace fs = std::filesystem;

/// From what knows least to what knows most.
const std::vector<std::string> kRooms = {
    "base",    "x86",    "memory",  "vcpu", "kvm",   "soft",    "irq",  "device", "pci",
    "display", "block",  "storage", "usb",  "cloud", "net",     "nic",  "virtio", "boot",
    "vnc",     "curses", "machine", "gdb",  "web",   "monitor", "qemu", "cli"};

fs::path source_root() { return fs::path(LIMEN_SOURCE_DIRECTORY) / "src"; }

struct Include {
  fs::path file;
  std::string from, to, line;
};

std::vector<Include> includes_between_rooms() {
  std::vector<Include> found;
  for (const auto& entry : fs::recursive_directory_iterator(source_root())) {
    const auto extension = entry.path().extension();
    if (extension != ".h" && extension != ".cc") continue;
    const auto relative = fs::relative(entry.path(), source_root());
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      const auto quote = line.find("#include \"");
      if (quote != 0) continue;
      const auto path = line.substr(10, line.find('"', 10) - 10);
      found.push_back(
          {relative, relative.begin()->string(), fs::path(path).begin()->string(), line});
    }
  }
  return found;
}

std::map<std::string, size_t> ranks() {
  std::map<std::string, size_t> rank;
  for (size_t i = 0; i < kRooms.size(); ++i) rank[kRooms[i]] = i;
  return rank;
}

TEST(Architecture, EveryRoomIsInTheOrder) {
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(source_root()))
    if (entry.is_directory()) folders.push_back(entry.path().filename());
  EXPECT_THAT(folders, testing::UnorderedElementsAreArray(kRooms));
}

TEST(Architecture, IncludesGoOneWay) {
  const auto rank = ranks();
  const auto all = includes_between_rooms();
  ASSERT_GT(all.size(), 100u);
  for (const auto& include : all) {
    ASSERT_TRUE(rank.contains(include.to))
        << include.file << ": " << include.line << ": write the path from src/ on";
    EXPECT_LE(rank.at(include.to), rank.at(include.from)) << include.file << ": " << include.line;
  }
}

TEST(Architecture, NoAcceleratorKnowsAnother) {
  for (const auto& include : includes_between_rooms())
    EXPECT_FALSE(include.from == "soft" && include.to == "kvm")
        << include.file << ": " << include.line;
}

TEST(Architecture, HeadersAreIncludedOnce) {
  for (const auto& entry : fs::recursive_directory_iterator(source_root())) {
    if (entry.path().extension() != ".h") continue;
    std::ifstream file(entry.path());
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    EXPECT_NE(text.find("\n#pragma once\n"), std::string::npos) << entry.path();
  }
}

// What base/result.h asks for: otherwise the earlier elements of the list leak.
TEST(Architecture, TriesStandInNoBracedList) {
  const std::regex listed(R"((\{[^};]*|^\s*\.\w+ = )LIMEN_TRY\()");
  ASSERT_TRUE(std::regex_search("list.push_back({name, LIMEN_TRY(open(name))});", listed));
  for (const auto& entry : fs::recursive_directory_iterator(source_root())) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);)
      EXPECT_FALSE(line.find("LIMEN_TRY(") != line.npos && std::regex_search(line, listed))
          << entry.path() << ": " << line;
  }
}

}  // namespace
}  // namespace limen
