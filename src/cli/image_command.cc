// limen-img: qemu-img's command line. A verb has a file in image/.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>

#include "base/nearest.h"
#include "cli/image/verbs.h"
#include "cli/programs.h"

namespace limen::cli {
namespace {

using image::Verb;

constexpr std::array<const Verb*, 14> kVerbs = {
    &image::kBench,  &image::kCheck,  &image::kCommit, &image::kCompare, &image::kConvert,
    &image::kCreate, &image::kDd,     &image::kInfo,   &image::kMap,     &image::kMeasure,
    &image::kRebase, &image::kResize, &image::kSeed,   &image::kSnapshot};

constexpr std::string_view kExamples = R"(
SIZE is a number with b, k, M, G, T, P or E behind it (powers of 1024); without one, bytes.
Formats: raw, qcow2. Cache modes: none, writeback, writethrough, directsync, unsafe.

examples:
  {0} create -f qcow2 disk.qcow2 20G
  {0} create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2
  {0} convert -p -O qcow2 -c disk.img disk.qcow2
  {0} resize disk.qcow2 +5G
)";

int print_help(const std::string& program) {
  fmt::print("Limen {}: disk images, with the commands of qemu-img\n\nusage:\n", LIMEN_VERSION);
  for (const auto* verb : kVerbs) fmt::print("  {} {:<9} {}\n", program, verb->name, verb->summary);
  fmt::print("\n`{} VERB --help` says more about each.\n", program);
  fmt::print(fmt::runtime(kExamples), program);
  return 0;
}

int print_verb_help(const std::string& program, const Verb& verb) {
  fmt::print("{0} {1}: {2}\n\nusage: {0} {1} {3}\n\n{4}", program, verb.name, verb.summary,
             verb.usage, verb.details);
  return 0;
}

Result<int> run(const Verb& verb, const std::string& program,
                std::span<const std::string> arguments) {
  const auto words = LIMEN_TRY(image::Words::parse(verb.name, verb.flags, arguments));
  if (words.has("-h")) return print_verb_help(program, verb);
  return verb.run(words);
}

}  // namespace

int image_main(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<std::string_view> names;
  names.reserve(kVerbs.size());
  for (const auto* verb : kVerbs) names.push_back(verb->name);
  if (arguments.empty())
    return complain(
        program, {fmt::format("a command is missing; valid choices: {}", fmt::join(names, ", "))});
  const auto& command = arguments[0];
  if (command == "-h" || command == "--help" || command == "help") return print_help(program);
  if (command == "-V" || command == "--version") {
    fmt::print("Limen {} ({})\n", LIMEN_VERSION, program);
    return 0;
  }
  const auto* const verb = std::ranges::find(kVerbs, std::string_view(command), &Verb::name);
  if (verb == kVerbs.end())
    return complain(program,
                    {fmt::format("unknown command '{}'{}", command, choice_hint(command, names))});
  const auto status = run(**verb, program, std::span(arguments).subspan(1));
  return status ? *status : complain(program, status.error());
}

}  // namespace limen::cli
