// The manual page and the completions name what the command table has, and nothing that it hides.
#include "cli/reference.h"

#include <gtest/gtest.h>

#include "cli/command.h"

namespace refault::cli {
namespace {

class Reference : public ::testing::Test {
  protected:
    Reference() {
        auto* pool = app_.add_subcommand("pool", "Look at 'a pool'");
        auto* open =
            add_command(*pool, context_, "open", "Open a pool", ".begins with a dot", [] {});
        open->add_option("devices", devices_, "Back\\slash")->required();
        open->add_option("-r,--rate", rate_, "How fast");
        open->add_flag("--inner", is_inner_, "For tests")->group("");
        app_.add_subcommand("secret", "Not shown")->group("");
    }

    Context context_;
    CLI::App app_;
    std::vector<std::string> devices_;
    std::string rate_;
    bool is_inner_ = false;
};

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != text.npos;
}

TEST_F(Reference, NamesEveryCommandAndOption) {
    const auto page = manual_page(app_, "1.2");
    EXPECT_TRUE(has(page, ".SS refault pool open devices ...\n")) << page;
    EXPECT_TRUE(has(page, ".B \\-r, \\-\\-rate VALUE\nHow fast\n")) << page;
    EXPECT_TRUE(has(page, "refault 1.2"));
    const auto bash = bash_completion(app_);
    EXPECT_TRUE(has(bash, "\" pool\") words=\"open ")) << bash;
    EXPECT_TRUE(has(bash, "\" pool open\") words=\"-h --help --json -r --rate\"")) << bash;
    const auto zsh = zsh_completion(app_);
    EXPECT_TRUE(has(zsh, "'pool:Look at '\\''a pool'\\'''\n")) << zsh;
    EXPECT_TRUE(has(zsh, "'--rate:How fast'\n")) << zsh;
}

TEST_F(Reference, HidesWhatHelpHides) {
    for (const auto& text : {manual_page(app_, "1"), bash_completion(app_), zsh_completion(app_)}) {
        EXPECT_FALSE(has(text, "secret"));
        EXPECT_FALSE(has(text, "inner"));
    }
}

TEST_F(Reference, TextIsNoMacro) {
    const auto page = manual_page(app_, "1");
    EXPECT_TRUE(has(page, "\\&.begins with a dot")) << page;
    EXPECT_TRUE(has(page, "Back\\eslash"));
}

}  // namespace
}  // namespace refault::cli
