// limen-img: the part of qemu-img's command line that raw images need.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/nearest.h"
#include "block/image_tool.h"
#include "cli/programs.h"

namespace limen::cli {
namespace {

constexpr std::array<std::string_view, 3> kCommands = {"create", "info", "resize"};
constexpr std::array<std::string_view, 1> kFormats = {"raw"};

constexpr std::string_view kHelp = R"(Limen {0}: disk images, with the commands of qemu-img

usage:
  {1} create [-f raw] [-q] FILE SIZE       make a sparse image
  {1} info [-U] [--output=human|json] FILE say what an image is
  {1} resize [-f raw] [-q] [--shrink] FILE [+|-]SIZE
                                                 change the size of an image
SIZE is a number with b, k, M, G, T, P or E behind it (powers of 1024); without one, bytes.
-U looks at an image that a running machine has open; -q prints nothing.

examples:
  {1} create -f raw disk.img 20G
  {1} resize disk.img +5G
)";

/// The words of one command, sorted out.
struct Words {
  bool help = false;
  bool quiet = false;
  bool force_share = false;
  bool shrink = false;
  std::string format = "raw";
  std::string output = "human";
  std::vector<std::string> positional;
};

struct Flag {
  std::string_view name;
  bool has_value;
};

bool is_relative_size(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && word[1] >= '0' && word[1] <= '9';
}

Result<Words> sort_out(const std::string& command, std::span<const std::string> arguments) {
  std::vector<Flag> flags = {{"-h", false}, {"--help", false}, {"-f", true}, {"--format", true}};
  if (command == "create" || command == "resize")
    flags.insert(flags.end(), {{"-q", false}, {"--quiet", false}});
  if (command == "info")
    flags.insert(flags.end(), {{"-U", false}, {"--force-share", false}, {"--output", true}});
  if (command == "resize") flags.push_back({"--shrink", false});

  Words words;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& word = arguments[i];
    if (!word.starts_with('-') || word == "-" || is_relative_size(word)) {
      words.positional.push_back(word);
      continue;
    }
    const auto equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    const auto name = word.substr(0, equals);
    const auto flag = std::ranges::find(flags, std::string_view(name), &Flag::name);
    if (flag == flags.end()) {
      std::vector<std::string_view> names;
      names.reserve(flags.size());
      for (const auto& known : flags) names.push_back(known.name);
      return fail("{}: unknown option '{}'{}", command, name, choice_hint(name, names));
    }
    std::string value;
    if (flag->has_value) {
      if (equals != std::string::npos)
        value = word.substr(equals + 1);
      else if (i + 1 < arguments.size())
        value = arguments[++i];
      else
        return fail("{}: option '{}' needs a value", command, name);
    } else if (equals != std::string::npos) {
      return fail("{}: option '{}' takes no value", command, name);
    }
    if (name == "-h" || name == "--help") words.help = true;
    if (name == "-q" || name == "--quiet") words.quiet = true;
    if (name == "-U" || name == "--force-share") words.force_share = true;
    if (name == "--shrink") words.shrink = true;
    if (name == "-f" || name == "--format") words.format = value;
    if (name == "--output") words.output = value;
  }
  if (std::ranges::find(kFormats, std::string_view(words.format)) == kFormats.end())
    return fail("{}: unknown image format '{}'{}", command, words.format,
                choice_hint(words.format, kFormats));
  return words;
}

Result<> create(const Words& words) {
  if (words.positional.size() != 2) return fail("create: a file and a size are needed");
  const auto& path = words.positional[0];
  const uint64_t size = LIMEN_TRY(block::parse_image_size(words.positional[1]));
  LIMEN_TRY(block::create_image(path, words.format, size));
  if (!words.quiet) fmt::print("Formatting '{}', fmt={} size={}\n", path, words.format, size);
  return {};
}

Result<> info(const Words& words) {
  if (words.positional.size() != 1) return fail("info: one file is needed");
  constexpr std::array<std::string_view, 2> kOutputs = {"human", "json"};
  if (std::ranges::find(kOutputs, std::string_view(words.output)) == kOutputs.end())
    return fail("info: unknown output '{}'{}", words.output, choice_hint(words.output, kOutputs));
  const auto found = LIMEN_TRY(block::image_info(words.positional[0], words.force_share));
  auto text = words.output == "json" ? block::describe_json(found) : block::describe(found);
  if (!text.ends_with('\n')) text += '\n';
  fmt::print("{}", text);
  return {};
}

Result<> resize(const Words& words) {
  if (words.positional.size() != 2) return fail("resize: a file and a size are needed");
  LIMEN_TRY(block::resize_image(words.positional[0], words.positional[1], words.shrink));
  if (!words.quiet) fmt::print("Image resized.\n");
  return {};
}

}  // namespace

int image_main(const std::string& program, const std::vector<std::string>& arguments) {
  const auto help = [&] {
    fmt::print(fmt::runtime(kHelp), LIMEN_VERSION, program);
    return 0;
  };
  if (arguments.empty())
    return complain(program, {"a command is missing; valid choices: create, info, resize"});
  const auto& command = arguments[0];
  if (command == "-h" || command == "--help" || command == "help") return help();
  if (command == "-V" || command == "--version") {
    fmt::print("Limen {} ({})\n", LIMEN_VERSION, program);
    return 0;
  }
  if (std::ranges::find(kCommands, std::string_view(command)) == kCommands.end())
    return complain(
        program, {fmt::format("unknown command '{}'{}", command, choice_hint(command, kCommands))});
  const auto words = sort_out(command, std::span(arguments).subspan(1));
  if (!words) return complain(program, words.error());
  if (words->help) return help();
  const auto done = command == "create" ? create(*words)
                    : command == "info" ? info(*words)
                                        : resize(*words);
  return done ? 0 : complain(program, done.error());
}

}  // namespace limen::cli
