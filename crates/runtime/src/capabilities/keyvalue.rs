//! `grants.keyvalue`: stores that the guest opens by name, in the two drafts of `wasi:keyvalue` that hosts have. Both are thin over
//! [`crate::keyvalue`].

use super::{Capability, granted};
use crate::config::Function;
use crate::engine::Wasi;
use crate::keyvalue::{BELOW_ZERO, Bucket, Failure, NO_CURSOR, NO_NUMBER, SEEN, TOO_MUCH_SEEN};
use crate::sandbox::Sandbox;
use crate::sandbox::leftovers::Entry;
use draft2::keyvalue::atomics::{CasError, HostCas};
use draft2::keyvalue::store::Error;
use wasmtime::component::{HasSelf, Linker, LinkerInstance, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};

/// As wasmtime has it.
mod draft {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package flexwasm:generated;
            world imports {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/atomics@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
            }
        ",
        world: "flexwasm:generated/imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store@0.2.0-draft.bucket": super::Opened },
    });
    pub use wasi::keyvalue0_2_0_draft as keyvalue;
}

/// As Spin has it.
mod draft2 {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package flexwasm:generated;
            world imports {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
            }
        ",
        world: "flexwasm:generated/imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store@0.2.0-draft2.bucket": super::Opened,
            "wasi:keyvalue/atomics@0.2.0-draft2.cas": super::Cas,
        },
    });
    pub use wasi::keyvalue0_2_0_draft2 as keyvalue;
}

pub struct KeyValue;

/// Links the interfaces of one draft.
macro_rules! link {
    ($draft:ident, $linker:ident: $($interface:ident)+) => {
        $($draft::keyvalue::$interface::add_to_linker::<_, HasSelf<Sandbox>>($linker, |sandbox| sandbox)?;)+
    };
}

impl Capability for KeyValue {
    fn link(&self, linker: &mut Linker<Sandbox>, _: Wasi) -> Result<()> {
        link!(draft, linker: store atomics batch);
        link!(draft2, linker: store atomics batch);
        Ok(())
    }

    fn describe(&self, function: &Function, interface: &str) -> Option<String> {
        match interface {
            "wasi:keyvalue/store" => Some(granted("grants.keyvalue", &function.grants.stores())),
            interface if interface.starts_with("wasi:keyvalue/") => Some("the stores that it has opened".to_owned()),
            _ => None,
        }
    }

    fn keeps(&self, resource: &Entry) -> bool {
        resource.is::<Opened>()
    }
}

/// A store that a guest has opened.
pub struct Opened {
    bucket: Bucket,
    /// Pages that were listed, where a page is named by a number: the last one, and what comes after it.
    pages: u64,
    next: Option<String>,
}

impl From<Bucket> for Opened {
    fn from(bucket: Bucket) -> Self {
        Self { bucket, pages: 0, next: None }
    }
}

/// Links `store` of one draft for the part with this number: it opens the stores of that part, which are stores like any other then.
macro_rules! link_part {
    ($name:ident, $draft:ident, $cursor:ty) => {
        #[doc = concat!("Links the stores of the part with this number, as `", stringify!($draft), "` has them.")]
        pub fn $name(linker: &mut LinkerInstance<'_, Sandbox>, part: usize) -> Result<()> {
            use $draft::keyvalue::store::{Error, HostBucket};
            type Store<'a> = StoreContextMut<'a, Sandbox>;
            linker.resource_async("bucket", ResourceType::host::<Opened>(), |mut store, bucket| {
                Box::new(async move { HostBucket::drop(store.data_mut(), Resource::new_own(bucket)).await })
            })?;
            linker.func_wrap("open", move |mut store: Store<'_>, (name,): (String,)| {
                let found = store.data().policy().parts[part].buckets.open(&name);
                let opened = found.map(|bucket| store.data_mut().table.push(Opened::from(bucket))).transpose()?;
                Ok((opened.ok_or(Error::NoSuchStore),))
            })?;
            link_part!(method linker, HostBucket, get(key: String));
            link_part!(method linker, HostBucket, set(key: String, value: Vec<u8>));
            link_part!(method linker, HostBucket, delete(key: String));
            link_part!(method linker, HostBucket, exists(key: String));
            link_part!(method linker, HostBucket, list_keys(cursor: Option<$cursor>));
            Ok(())
        }
    };
    (method $linker:ident, $host:ident, $method:ident($($argument:ident: $type:ty),+)) => {
        $linker.func_wrap_async(
            &format!("[method]bucket.{}", stringify!($method).replace('_', "-")),
            |mut store: Store<'_>, (bucket, $($argument),+): (Resource<Opened>, $($type),+)| {
                Box::new(async move { Ok(($host::$method(store.data_mut(), bucket, $($argument),+).await?,)) })
            },
        )?
    };
}

link_part!(link_part_draft, draft, u64);
link_part!(link_part_draft2, draft2, String);

/// A value that a guest has seen, and will replace only if it is still there.
pub struct Cas {
    bucket: Bucket,
    key: String,
    seen: Option<Vec<u8>>,
}

impl Cas {
    /// Bytes that it keeps.
    fn size(&self) -> usize {
        self.key.len() + self.seen.as_ref().map_or(0, Vec::len)
    }
}

impl Sandbox {
    fn bucket(&self, opened: &Resource<Opened>) -> Result<Bucket> {
        Ok(self.table.get(opened)?.bucket.clone())
    }

    /// What is there now, for the guest to replace.
    async fn look(&mut self, bucket: Bucket, key: String) -> Result<std::result::Result<Resource<Cas>, Failure>> {
        let cas = match bucket.get(&key).await {
            Ok(seen) => Cas { bucket, key, seen },
            Err(failure) => return Ok(Err(failure)),
        };
        let seen = self.seen + cas.size();
        if seen > SEEN {
            return Ok(Err(TOO_MUCH_SEEN));
        }
        let cas = self.table.push(cas)?;
        self.seen = seen;
        Ok(Ok(cas))
    }

    fn forget(&mut self, cas: Resource<Cas>) -> Result<Cas> {
        let cas = self.table.delete(cas)?;
        self.seen -= cas.size();
        Ok(cas)
    }
}

/// Where the next page begins, as a draft spells it.
trait Cursor: Sized {
    /// None for what is no cursor.
    fn read(self, opened: &Opened) -> Option<String>;
    fn write(next: String, opened: &mut Opened) -> Self;
}

impl Cursor for u64 {
    fn read(self, opened: &Opened) -> Option<String> {
        opened.next.clone().filter(|_| self == opened.pages)
    }

    fn write(next: String, opened: &mut Opened) -> Self {
        opened.next = Some(next);
        opened.pages += 1;
        opened.pages
    }
}

impl Cursor for String {
    fn read(self, _: &Opened) -> Option<String> {
        Some(self)
    }

    fn write(next: String, _: &mut Opened) -> Self {
        next
    }
}

/// One draft, with its types for a cursor, a number, and what is read of many keys.
macro_rules! host {
    ($draft:ident, $cursor:ty, $number:ty, $many:ty, $read:expr $(, $cas:item)*) => {
        const _: () = {
            use $draft::keyvalue::{atomics, batch, store};
            use store::{Error, KeyResponse};

            impl From<Failure> for Error {
                fn from(failure: Failure) -> Self {
                    Self::Other(failure.to_string())
                }
            }

            impl store::Host for Sandbox {
                async fn open(&mut self, identifier: String) -> Result<Result<Resource<Opened>, Error>> {
                    match self.policy().buckets.open(&identifier) {
                        Some(bucket) => Ok(Ok(self.table.push(Opened::from(bucket))?)),
                        None => Ok(Err(Error::NoSuchStore)),
                    }
                }
            }

            impl store::HostBucket for Sandbox {
                async fn get(&mut self, bucket: Resource<Opened>, key: String) -> Result<Result<Option<Vec<u8>>, Error>> {
                    Ok(self.bucket(&bucket)?.get(&key).await.map_err(Error::from))
                }

                async fn set(&mut self, bucket: Resource<Opened>, key: String, value: Vec<u8>) -> Result<Result<(), Error>> {
                    Ok(self.bucket(&bucket)?.set(&key, value).await.map_err(Error::from))
                }

                async fn delete(&mut self, bucket: Resource<Opened>, key: String) -> Result<Result<(), Error>> {
                    Ok(self.bucket(&bucket)?.delete(&key).await.map_err(Error::from))
                }

                async fn exists(&mut self, bucket: Resource<Opened>, key: String) -> Result<Result<bool, Error>> {
                    let found = self.bucket(&bucket)?.get(&key).await;
                    Ok(found.map(|value| value.is_some()).map_err(Error::from))
                }

                async fn list_keys(
                    &mut self,
                    bucket: Resource<Opened>,
                    cursor: Option<$cursor>,
                ) -> Result<Result<KeyResponse, Error>> {
                    let opened = self.table.get(&bucket)?;
                    let Ok(from) = cursor.map(|cursor| cursor.read(opened).ok_or(())).transpose() else {
                        return Ok(Err(NO_CURSOR.into()));
                    };
                    let page = opened.bucket.clone().list(from).await;
                    let opened = self.table.get_mut(&bucket)?;
                    let mut cursor = |next: Option<String>| next.map(|next| Cursor::write(next, opened));
                    let response = page.map(|page| KeyResponse { keys: page.keys, cursor: cursor(page.next) });
                    Ok(response.map_err(Error::from))
                }

                async fn drop(&mut self, bucket: Resource<Opened>) -> Result<()> {
                    self.table.delete(bucket)?;
                    Ok(())
                }
            }

            impl batch::Host for Sandbox {
                async fn get_many(&mut self, bucket: Resource<Opened>, keys: Vec<String>) -> Result<Result<Vec<$many>, Error>> {
                    let got = self.bucket(&bucket)?.get_many(keys).await;
                    Ok(got.map(|got| got.into_iter().map($read).collect()).map_err(Error::from))
                }

                async fn set_many(
                    &mut self,
                    bucket: Resource<Opened>,
                    pairs: Vec<(String, Vec<u8>)>,
                ) -> Result<Result<(), Error>> {
                    Ok(self.bucket(&bucket)?.set_many(pairs).await.map_err(Error::from))
                }

                async fn delete_many(&mut self, bucket: Resource<Opened>, keys: Vec<String>) -> Result<Result<(), Error>> {
                    Ok(self.bucket(&bucket)?.delete_many(keys).await.map_err(Error::from))
                }
            }

            impl atomics::Host for Sandbox {
                async fn increment(
                    &mut self,
                    bucket: Resource<Opened>,
                    key: String,
                    delta: $number,
                ) -> Result<Result<$number, Error>> {
                    let bucket = self.bucket(&bucket)?;
                    let number = match i64::try_from(delta).map_err(|_| NO_NUMBER) {
                        Ok(by) => bucket.increment(&key, by).await,
                        Err(failure) => Err(failure),
                    };
                    Ok(number.and_then(|number| <$number>::try_from(number).map_err(|_| BELOW_ZERO)).map_err(Error::from))
                }

                $($cas)*
            }
        };
    };
}

host!(draft, u64, u64, Option<(String, Vec<u8>)>, |(key, value)| Some((key, value?)));
host!(
    draft2,
    String,
    i64,
    (String, Option<Vec<u8>>),
    |pair| pair,
    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> Result<Result<(), CasError>> {
        let Cas { bucket, key, seen } = self.forget(cas)?;
        match bucket.swap(&key, seen, value).await {
            Ok(true) => Ok(Ok(())),
            // The guest gets the value that is there now, and may try again.
            Ok(false) => Ok(Err(match self.look(bucket, key).await? {
                Ok(cas) => CasError::CasFailed(cas),
                Err(failure) => CasError::StoreError(failure.into()),
            })),
            Err(failure) => Ok(Err(CasError::StoreError(failure.into()))),
        }
    }
);

impl HostCas for Sandbox {
    async fn new(&mut self, bucket: Resource<Opened>, key: String) -> Result<Result<Resource<Cas>, Error>> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.look(bucket, key).await?.map_err(Error::from))
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Result<Result<Option<Vec<u8>>, Error>> {
        Ok(Ok(self.table.get(&cas)?.seen.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> Result<()> {
        self.forget(cas).map(drop)
    }
}
