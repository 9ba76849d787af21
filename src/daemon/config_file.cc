// toml++ reads the file, because it knows the line of each key; CLI11 takes the values as if they
// had been given as options.
#include "daemon/config_file.h"

#include <toml++/toml.h>

#include <memory>
#include <string>
#include <vector>

namespace refault::daemon {

namespace {

class TomlConfig final : public CLI::Config {
  public:
    explicit TomlConfig(const CLI::App& app) : app_(app) {}

    std::string to_config(const CLI::App*, bool, bool, std::string) const override { return {}; }

    std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
        std::vector<CLI::ConfigItem> found;
        try {
            const auto table = toml::parse(input);
            for (const auto& [key, value] : table) found.push_back(to_item(key, value));
        } catch (const toml::parse_error& error) {
            const std::string what(error.description());
            // A mode that is written as everywhere else.
            const bool is_mode = what.find("leading zero") != what.npos;
            fail(error.source(), what + (is_mode ? "; write it in quotes, as \"0660\"" : ""));
        }
        return found;
    }

  private:
    [[noreturn]] void fail(const toml::source_region& where, const std::string& what) const {
        throw CLI::ConfigError(file_name() + ":" + std::to_string(where.begin.line) + ": " + what);
    }

    std::string file_name() const {
        const auto* option = app_.get_config_ptr();
        return option == nullptr || option->empty() ? "configuration" : option->as<std::string>();
    }

    CLI::ConfigItem to_item(const toml::key& key, const toml::node& value) const {
        CLI::ConfigItem item;
        item.name = std::string(key.str());
        const auto* option = app_.get_option_no_throw("--" + item.name);
        // CLI11 says the same of these, without a line.
        if (option == nullptr || !option->get_configurable() || item.name == "help")
            fail(key.source(), "'" + item.name + "' is no option; see: refaultd --help");
        item.inputs = to_inputs(item.name, value, option->get_items_expected_max() > 1);
        for (auto& input : item.inputs) check(*option, input, value.source());
        return item;
    }

    std::vector<std::string> to_inputs(const std::string& name, const toml::node& value,
                                       bool may_be_many) const {
        const auto* array = value.as_array();
        if (array == nullptr) return {to_text(name, value)};
        if (!may_be_many) fail(value.source(), "'" + name + "' takes one value, not a list");
        if (array->empty()) fail(value.source(), "'" + name + "' lists nothing; leave it away");
        std::vector<std::string> inputs;
        for (const auto& each : *array) inputs.push_back(to_text(name, each));
        return inputs;
    }

    std::string to_text(const std::string& name, const toml::node& value) const {
        if (const auto* text = value.as_string()) return text->get();
        if (const auto* number = value.as_integer()) return std::to_string(number->get());
        if (const auto* flag = value.as_boolean()) return flag->get() ? "true" : "false";
        fail(value.source(), "'" + name + "' takes a string, a whole number, true or false");
    }

    // What the option itself checks later, asked here where the line is known.
    void check(const CLI::Option& option, std::string input,
               const toml::source_region& where) const {
        for (int i = 0;; ++i) {
            const CLI::Validator* validator = nullptr;
            try {
                validator = const_cast<CLI::Option&>(option).get_validator(i);
            } catch (const CLI::OptionNotFound&) {
                return;
            }
            if (const auto wrong = (*validator)(input); !wrong.empty())
                fail(where, option.get_name() + ": " + wrong);
        }
    }

    const CLI::App& app_;
};

}  // namespace

void add_config_file(CLI::App& app) {
    app.set_config("--config", "", "Read options from this file (see refaultd.conf(5))")
        ->type_name("FILE");
    app.config_formatter(std::make_shared<TomlConfig>(app));
    app.allow_config_extras(CLI::config_extras_mode::error);
}

}  // namespace refault::daemon
