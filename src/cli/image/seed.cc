// Not a verb of qemu-img's.
#include "cli/cloud_options.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {
namespace {

Result<int> run_seed(const Words& words) {
  if (words.positional().size() != 1) return fail("seed: one file is needed");
  const SeedWords seed{.user_data = words.text("--user-data"),
                       .meta_data = words.text("--meta-data"),
                       .network_config = words.text("--network-config"),
                       .vendor_data = words.text("--vendor-data"),
                       .host_name = words.text("--hostname")};
  LIMEN_TRY(write_seed(seed, words.positional()[0]));
  return 0;
}

constexpr Flag kSeedFlags[] = {kHelpFlag,
                               {"", "--user-data", true},
                               {"", "--meta-data", true},
                               {"", "--network-config", true},
                               {"", "--vendor-data", true},
                               {"", "--hostname", true}};

}  // namespace

const Verb kSeed = {
    "seed",
    "[--user-data FILE] [--meta-data FILE] [--network-config FILE] "
    "[--vendor-data FILE] [--hostname NAME] FILE",
    "make the disk that cloud-init sets a guest up from (NoCloud)",
    R"(  --user-data FILE       what cloud-init is to do: #cloud-config, a script, ...
  --meta-data FILE       instance-id and local-hostname; without, made from what is given
  --network-config FILE  the guest's network, as netplan has it
  --vendor-data FILE     as user data, before it
  --hostname NAME        the guest's name, without --meta-data
)",
    kSeedFlags,
    run_seed};

}  // namespace limen::cli::image
