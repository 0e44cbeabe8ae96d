//! A table or a container of blobs in Azure Storage, and who may use it: the app's identity, or whoever has the key of the account or a shared
//! access signature.

use super::AppSettings;
use super::credentials::{Identity, TokenFor};
use super::hosts::{Name, Target};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// The account of the emulator, which is the same everywhere (README of Azurite, "Default Storage Account").
const EMULATOR: &str = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;\
     AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
     BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;TableEndpoint=http://127.0.0.1:10002/devstoreaccount1";
const URL: &str = "must name its account like https://acme.table.core.windows.net, over https or at a literal address";

/// Which service of an account it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Entities in a table.
    Table,
    /// Blobs in a container.
    Blob,
}

impl Service {
    /// What a place in it begins with.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Table => "azure-table:",
            Self::Blob => "azure-blob:",
        }
    }

    /// What names of servers have.
    fn host(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Blob => "blob",
        }
    }

    /// The URL of the account that an identity opens, of the app settings that begin with this name.
    fn identity_based(self, setting: &str, settings: &AppSettings) -> Option<String> {
        let part = |end: &str| settings.get(&format!("{setting}__{end}"));
        let url = part(&format!("{}ServiceUri", self.host())).cloned();
        url.or_else(|| Some(format!("https://{}.{}.core.windows.net", part("accountName")?, self.host())))
    }

    /// Whether a table, or a container, can have this name (Azure Storage, "Understanding the Table service data model" and "Naming and
    /// referencing containers, blobs, and metadata").
    fn can_have(self, name: &str) -> bool {
        let letter = |byte: u8| match self {
            Self::Table => byte.is_ascii_alphanumeric(),
            Self::Blob => byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-',
        };
        let first = |byte: &u8| match self {
            Self::Table => byte.is_ascii_alphabetic(),
            Self::Blob => *byte != b'-',
        };
        let dashes = !name.contains("--") && !name.ends_with('-');
        (3..=63).contains(&name.len())
            && name.bytes().all(letter)
            && name.as_bytes().first().is_some_and(first)
            && dashes
    }
}

/// A table or a container in a storage account, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    service: Service,
    account: Account,
    /// Of the table or the container.
    name: String,
}

/// An account, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Account {
    Endpoint(Endpoint),
    /// In the app setting of this name: a connection string, or an endpoint. Or in those that begin with it, as bindings name an account that an
    /// identity opens (Azure Functions, "Configure an identity-based connection").
    Setting(String),
}

/// Where a service of an account is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The server.
    pub target: Target,
    /// The path of the account there, such as `/devstoreaccount1`; empty where the server's name has the account.
    pub root: String,
}

/// Who may use an account.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Access {
    /// Whoever has its key.
    Key {
        /// Its name.
        account: String,
        /// The key itself.
        key: Vec<u8>,
    },
    /// Whoever has this shared access signature, which stands behind the query of every request.
    Signature(String),
    /// An identity.
    Token(TokenFor),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access(not shown)")
    }
}

/// A table or a container, as it is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Which of them.
    pub service: Service,
    /// Where its service is.
    pub endpoint: Endpoint,
    /// Of the table or the container.
    pub name: String,
    /// Who uses it.
    pub access: Access,
}

impl Written {
    /// Reads `azure-table:` or `azure-blob:`, an account, and the name of a table or a container. None if it is something else.
    ///
    /// # Errors
    /// What to write instead, for a person; without a word of it.
    pub fn parse(text: &str) -> Option<Result<Self, &'static str>> {
        let services = [Service::Table, Service::Blob];
        let (service, rest) =
            services.iter().find_map(|service| Some((*service, text.strip_prefix(service.scheme())?)))?;
        Some(Self::of(service, rest))
    }

    fn of(service: Service, rest: &str) -> Result<Self, &'static str> {
        let (account, name) = rest.rsplit_once('/').ok_or(
            "must end in the name of a table or a container, as in \"azure-table:https://acme.table.core.windows.net/counters\"",
        )?;
        if !service.can_have(name) {
            return Err(match service {
                Service::Table => "must end in the name of a table: 3 to 63 letters and digits, a letter first",
                Service::Blob => "must end in the name of a container: 3 to 63 small letters, digits and single dashes",
            });
        }
        let setting = account.strip_prefix('%').and_then(|account| account.strip_suffix('%'));
        let account = match setting.filter(|setting| !setting.is_empty() && !setting.contains('%')) {
            Some(setting) => Account::Setting(setting.to_owned()),
            None => Account::Endpoint(Endpoint::for_tokens(account).ok_or(
                "must name its account like https://acme.table.core.windows.net, or by an app setting with its connection string, \
                 such as %AzureWebJobsStorage%",
            )?),
        };
        Ok(Self { service, account, name: name.to_owned() })
    }

    /// The app setting that names the account, if it is a table.
    pub fn table_of(&self) -> Option<&str> {
        match (self.service, &self.account) {
            (Service::Table, Account::Setting(setting)) => Some(setting),
            _ => None,
        }
    }

    /// Finds out where it is and who uses it.
    ///
    /// # Errors
    /// What is wrong, without a word of a value.
    pub fn find(&self, identity: &Identity, settings: &AppSettings) -> Result<Resource, String> {
        let Self { service, account, name } = self;
        let (endpoint, access) = match account {
            Account::Endpoint(endpoint) => (endpoint.clone(), Access::Token(identity.fill(settings)?)),
            Account::Setting(setting) => {
                let missing = || format!("there is no app setting {setting}: set it, or write another name");
                let text = settings.get(setting).cloned().or_else(|| service.identity_based(setting, settings));
                let text = &*text.ok_or_else(missing)?;
                if text.contains("://") && !text.contains('=') {
                    let endpoint =
                        Endpoint::for_tokens(text).ok_or_else(|| format!("the app setting {setting} {URL}"))?;
                    (endpoint, Access::Token(identity.fill(settings)?))
                } else {
                    connection(text, *service).map_err(|why| format!("the app setting {setting} {why}"))?
                }
            }
        };
        Ok(Resource { service: *service, endpoint, name: name.clone(), access })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, account, name } = self;
        match account {
            Account::Endpoint(endpoint) => write!(f, "{}{endpoint}/{name}", service.scheme()),
            Account::Setting(setting) => write!(f, "{}%{setting}%/{name}", service.scheme()),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/{}", self.service.scheme(), self.endpoint, self.name)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.target, self.root)
    }
}

impl Endpoint {
    /// Reads `scheme://host[:port][/account]`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (scheme, rest) = text.split_once("://")?;
        let (host, root) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
        let fits = root.bytes().all(letter);
        fits.then_some(Self { target: Target::parse(&format!("{scheme}://{host}"))?, root: root.to_owned() })
    }

    /// One that may be sent tokens.
    fn for_tokens(text: &str) -> Option<Self> {
        Self::parse(text).filter(Self::is_private)
    }

    /// Whether what it is sent cannot be read on the way there.
    fn is_private(&self) -> bool {
        self.target.tls || matches!(self.target.name, Name::Address(_))
    }
}

/// Reads a connection string (Azure Storage, "Configure Azure Storage connection strings").
fn connection(text: &str, service: Service) -> Result<(Endpoint, Access), &'static str> {
    const FORM: &str = "must be a connection string with AccountName and AccountKey, or with endpoints and SharedAccessSignature, or the URL of an account";
    let emulator = text.trim().trim_end_matches(';').eq_ignore_ascii_case("UseDevelopmentStorage=true");
    let text = if emulator { EMULATOR } else { text };
    let value = |key: &str| {
        let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value).next()
    };
    let account = value("AccountName").filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let host = service.host();
    let endpoint = match value(&format!("{host}Endpoint")) {
        Some(endpoint) => Endpoint::parse(endpoint),
        None => {
            let scheme = value("DefaultEndpointsProtocol").unwrap_or("https");
            let suffix = value("EndpointSuffix").unwrap_or("core.windows.net");
            Endpoint::parse(&format!("{scheme}://{}.{host}.{suffix}", account.ok_or(FORM)?))
        }
    };
    let endpoint = endpoint.ok_or("has an endpoint that is no URL: copy the connection string again")?;
    let access = match (value("AccountKey"), value("SharedAccessSignature")) {
        (Some(key), _) => {
            let key = STANDARD.decode(key);
            let key = key.map_err(|_| "has an AccountKey that is not base64: copy the connection string again")?;
            Access::Key { account: account.ok_or(FORM)?.to_owned(), key }
        }
        (None, Some(signature)) => {
            let signature = signature.trim_start_matches('?');
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%=&+/:,".contains(&byte);
            if !signature.bytes().all(letter) || !signature.split('&').any(|pair| pair.starts_with("sig=")) {
                return Err("has a SharedAccessSignature that is none: copy the connection string again");
            }
            if !endpoint.is_private() {
                return Err(
                    "has a SharedAccessSignature, so its endpoint must begin with https, or name a literal address",
                );
            }
            Access::Signature(signature.to_owned())
        }
        (None, None) => return Err(FORM),
    };
    Ok((endpoint, access))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn find(text: &str, setting: &str) -> Result<Resource, String> {
        let named = [
            ("S", setting),
            ("I__accountName", "acme"),
            ("J__accountName", "no"),
            ("J__tableServiceUri", "https://a.example"),
        ];
        let settings: AppSettings =
            named.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let identity = Identity::storage(&Map::new()).expect("nothing is written");
        Written::parse(text).expect("a place in Azure").map_err(str::to_owned)?.find(&identity, &settings)
    }

    #[test]
    fn a_place_says_where_it_is_and_who_uses_it() {
        let key = "AccountName=acme;AccountKey=aHVzaA==";
        for (text, setting, shown, token) in [
            ("azure-table:https://acme.table.core.windows.net/counters", "", "", true),
            ("azure-blob:https://acme.blob.core.windows.net/a-b1", "", "", true),
            ("azure-blob:http://127.0.0.1:1/acme/abc", "", "", true),
            ("azure-table:%S%/abc", key, "azure-table:https://acme.table.core.windows.net/abc", false),
            ("azure-blob:%S%/abc", key, "azure-blob:https://acme.blob.core.windows.net/abc", false),
            (
                "azure-blob:%S%/abc",
                "DefaultEndpointsProtocol=http;AccountKey=aHVzaA==;AccountName=acme;EndpointSuffix=a.b;",
                "azure-blob:http://acme.blob.a.b/abc",
                false,
            ),
            (
                "azure-table:%S%/abc",
                "AccountKey=aHVzaA==;AccountName=acme;TableEndpoint=http://127.0.0.1:2/acme/;BlobEndpoint=x",
                "azure-table:http://127.0.0.1:2/acme/abc",
                false,
            ),
            (
                "azure-table:%S%/abc",
                "UseDevelopmentStorage=true",
                "azure-table:http://127.0.0.1:10002/devstoreaccount1/abc",
                false,
            ),
            (
                "azure-table:%S%/abc",
                "BlobEndpoint=https://a.example/;TableEndpoint=https://b.example/;SharedAccessSignature=sv=1&sig=hush%2B1%3D",
                "azure-table:https://b.example/abc",
                false,
            ),
            (
                "azure-blob:%S%/abc",
                "AccountName=acme;SharedAccessSignature=?sv=1&sig=hush",
                "azure-blob:https://acme.blob.core.windows.net/abc",
                false,
            ),
            ("azure-table:%S%/abc", "https://a.example/", "azure-table:https://a.example/abc", true),
            ("azure-blob:%I%/abc", "", "azure-blob:https://acme.blob.core.windows.net/abc", true),
            ("azure-table:%J%/abc", "", "azure-table:https://a.example/abc", true),
        ] {
            let resource = find(text, setting).expect(text);
            assert_eq!(resource.to_string(), if shown.is_empty() { text } else { shown });
            assert_eq!(matches!(resource.access, Access::Token(_)), token, "{text}");
            assert_eq!(Written::parse(text).map(|written| written.map(|it| it.to_string())), Some(Ok(text.to_owned())));
            assert!(!format!("{resource:?}").contains("hush"), "{resource:?}");
        }
        assert_eq!(Written::parse("memory"), None);
    }

    #[test]
    fn what_is_wrong_is_told_without_a_value() {
        for (text, setting, words) in [
            ("azure-table:hush", "", "must end in the name of a table or a container"),
            ("azure-table:%S%/a-b", "", "must end in the name of a table: 3"),
            ("azure-table:%S%/1ab", "", "must end in the name of a table: 3"),
            ("azure-blob:%S%/Abc", "", "must end in the name of a container"),
            ("azure-blob:%S%/a--b", "", "must end in the name of a container"),
            ("azure-blob:http://hush.example/abc", "", "must name its account like https"),
            ("azure-blob:%%/abc", "", "must name its account like https"),
            ("azure-blob:https://a:hush@b/abc", "", "must name its account like https"),
            ("azure-blob:https://b/?sig=hush/abc", "", "must name its account like https"),
            ("azure-blob:%T%/abc", "", "there is no app setting T"),
            ("azure-blob:%S%/abc", "hush", "the app setting S must be a connection string"),
            ("azure-blob:%S%/abc", "http://hush.example", "the app setting S must name its account like https"),
            ("azure-blob:%S%/abc", "AccountName=a;AccountKey=hush!", "not base64"),
            ("azure-blob:%S%/abc", "AccountName=a;AccountKey=aHVzaA==;BlobEndpoint=hush", "no URL"),
            ("azure-blob:%S%/abc", "BlobEndpoint=https://a", "AccountName and AccountKey, or with endpoints"),
            ("azure-blob:%S%/abc", "SharedAccessSignature=sig=hush", "AccountName and AccountKey, or with endpoints"),
            (
                "azure-blob:%S%/abc",
                "BlobEndpoint=https://a;SharedAccessSignature=hush",
                "a SharedAccessSignature that is none",
            ),
            (
                "azure-blob:%S%/abc",
                "BlobEndpoint=https://a;SharedAccessSignature=sig=hush#",
                "a SharedAccessSignature that is none",
            ),
            ("azure-blob:%S%/abc", "BlobEndpoint=http://a;SharedAccessSignature=sig=hush", "must begin with https"),
            ("azure-blob:%S%/abc", "AccountName=a;BlobEndpoint=hush;SharedAccessSignature=sig=hush", "no URL"),
        ] {
            let wrong = find(text, setting).expect_err(words);
            assert!(wrong.contains(words) && !wrong.contains("hush"), "{text}: {wrong}");
        }
    }
}
