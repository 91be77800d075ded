//! Objects in buckets, fetched into a folder where the readers of `corpus` take them for files.
//!
//! This is the one place that speaks with a network, and the one that is async inside; its functions block. What may be
//! said about a bucket (region, keys, endpoint) is said with the names that the clouds' own tools read from the environment
//! (`AWS_REGION`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`); `cli` hands them in.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arable_core::{Digest, Hint};
use arable_corpus::{fetched_path, is_readable_name, path_matcher};
use fs_err as fs;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{ClientOptions, Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::runtime::Runtime;

/// Settings of buckets by the names of environment variables.
pub type StoreOptions = BTreeMap<String, String>;

/// What the names of such settings begin with.
pub const OPTION_PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// What addresses begin with.
const SCHEMES: [&str; 3] = ["s3://", "gs://", "az://"];

/// A bucket that cannot be read as asked for.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The address, or what is said about the bucket, makes no sense.
    #[error("open `{address}`")]
    Open {
        /// The address.
        address: String,
        /// What is wrong.
        source: Error,
    },
    /// A glob that cannot be understood.
    #[error("understand the glob of `{address}`")]
    Glob {
        /// The address.
        address: String,
        /// What is wrong with it.
        source: arable_corpus::FileError,
    },
    /// No object of that name, or none that matches.
    #[error("find an object to read at `{address}`")]
    Missing {
        /// The address.
        address: String,
    },
    /// The bucket cannot be listed, or an object not be read.
    #[error("read `{address}`")]
    Read {
        /// The address.
        address: String,
        /// What the store says.
        source: Error,
    },
    /// What was fetched cannot be written.
    #[error("write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Hint for BucketError {
    fn hint(&self) -> Option<String> {
        let keys = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (public buckets: AWS_SKIP_SIGNATURE=true), \
                    GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY";
        Some(match self {
            Self::Open { .. } => format!("write addresses like `s3://bucket/folder/*.jsonl.gz`; {keys}"),
            Self::Glob { source, .. } => return source.hint(),
            Self::Missing { .. } => {
                "name an object, a folder, or a glob such as `s3://bucket/notes/**/*.txt`; of a folder, objects are read \
                 whose names tell a format"
                    .to_owned()
            }
            Self::Read { source: Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, .. } => {
                format!("the store refuses it; {keys}")
            }
            Self::Read { source: Error::NotFound { .. }, .. } => {
                "check the name of the bucket, and AWS_REGION or AWS_ENDPOINT_URL".to_owned()
            }
            // The crate has no kind of its own for it.
            Self::Read { source, .. } if source.to_string().contains("NoSuchBucket") => {
                "check the name of the bucket, and AWS_REGION or AWS_ENDPOINT_URL".to_owned()
            }
            Self::Read { source: Error::Precondition { .. }, .. } => {
                "the object was changed while it was read; start again".to_owned()
            }
            Self::Read { .. } => format!(
                "check the address, the network, AWS_REGION and AWS_ENDPOINT_URL (with AWS_ALLOW_HTTP=true for http); {keys}"
            ),
            Self::Write { .. } => "check that the folder may be written to and has room".to_owned(),
        })
    }
}

/// Whether a path is the address of a bucket.
pub(crate) fn is_address(path: &str) -> bool {
    SCHEMES.iter().any(|scheme| path.starts_with(scheme))
}

/// Objects that an address stands for, sorted by key.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    runtime: Runtime,
    /// Scheme and bucket: `s3://bucket`.
    bucket: String,
    found: Vec<ObjectMeta>,
}

impl Objects {
    /// Finds the objects that `address` stands for: an object, a glob, or all below a folder whose names tell a format.
    pub(crate) fn find(address: &str, options: &StoreOptions) -> Result<Self, BucketError> {
        let opened = |source| BucketError::Open { address: address.to_owned(), source };
        Self::of(open(address, options).map_err(opened)?, address)
    }

    fn of(store: Arc<dyn ObjectStore>, address: &str) -> Result<Self, BucketError> {
        let (bucket, key) = split(address);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| BucketError::Write { path: PathBuf::new(), source })?;
        let mut objects = Self { store, runtime, bucket: bucket.to_owned(), found: Vec::new() };
        let failed = |source| BucketError::Read { address: address.to_owned(), source };
        objects.found = match key.find(['*', '?', '[', '{']) {
            Some(special) => {
                let cut = key[..special].rfind('/').map_or(0, |at| at + 1);
                let glob = |source| BucketError::Glob { address: address.to_owned(), source };
                let matches = path_matcher(&key[cut..]).map_err(glob)?;
                objects.below(&key[..cut], matches).map_err(failed)?
            }
            None => match objects.one(key).map_err(failed)? {
                Some(object) => vec![object],
                None => objects.below(key, is_readable_name).map_err(failed)?,
            },
        };
        if objects.found.is_empty() {
            return Err(BucketError::Missing { address: address.to_owned() });
        }
        Ok(objects)
    }

    /// The object of exactly this key.
    fn one(&self, key: &str) -> Result<Option<ObjectMeta>, Error> {
        if key.is_empty() || key.ends_with('/') {
            return Ok(None);
        }
        match self.runtime.block_on(self.store.head(&Key::parse(key)?)) {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Objects below a folder whose keys, from there on, are wanted. Hidden ones never are, and neither are empty ones that
    /// stand for folders.
    fn below(&self, folder: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<ObjectMeta>, Error> {
        let folder = Key::parse(folder.trim_end_matches('/'))?;
        let prefix = Some(&folder).filter(|folder| !folder.as_ref().is_empty());
        let mut found: Vec<ObjectMeta> = self.runtime.block_on(self.store.list(prefix).try_collect())?;
        let is_wanted = |object: &ObjectMeta| {
            let key = object.location.as_ref().strip_prefix(folder.as_ref()).unwrap_or_default();
            let key = key.trim_start_matches('/');
            !key.is_empty() && !key.split('/').any(|part| part.starts_with('.')) && wanted(key)
        };
        found.retain(is_wanted);
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// What the objects are, without reading them: their keys and sizes and, as far as the store tells, their versions and
    /// entity tags, else the times of their last change.
    pub(crate) fn digest(&self) -> Digest {
        let of = |object: &ObjectMeta| {
            let has_name = object.e_tag.is_some() || object.version.is_some();
            let changed = (!has_name).then(|| object.last_modified.to_rfc3339());
            (object.location.to_string(), object.size, object.e_tag.clone(), object.version.clone(), changed)
        };
        Digest::of_json(&(&self.bucket, self.found.iter().map(of).collect::<Vec<_>>()))
    }

    /// Writes the objects below `folder`, each where [`fetched_path`] has it. What was written before is not read again.
    pub(crate) fn fetch(&self, folder: &Path) -> Result<(), BucketError> {
        for object in &self.found {
            let address = format!("{}/{}", self.bucket, object.location);
            let path = fetched_path(folder, &address);
            if !path.is_file() {
                self.fetch_one(object, &address, &path)?;
            }
        }
        Ok(())
    }

    fn fetch_one(&self, object: &ObjectMeta, address: &str, path: &Path) -> Result<(), BucketError> {
        let failed = |source| BucketError::Read { address: address.to_owned(), source };
        let unwritten = |source| BucketError::Write { path: path.to_owned(), source };
        let beside = path.with_added_extension("part");
        fs::create_dir_all(path.parent().unwrap_or(path)).map_err(unwritten)?;
        let mut file = fs::File::create(&beside).map_err(unwritten)?;
        let options =
            GetOptions { if_match: object.e_tag.clone(), version: object.version.clone(), ..GetOptions::default() };
        self.runtime.block_on(async {
            let mut bytes = self.store.get_opts(&object.location, options).await.map_err(failed)?.into_stream();
            while let Some(bytes) = bytes.try_next().await.map_err(failed)? {
                file.write_all(&bytes).map_err(unwritten)?;
            }
            Ok(())
        })?;
        fs::rename(&beside, path).map_err(unwritten)
    }
}

/// Scheme with bucket, and key, which may be empty.
fn split(address: &str) -> (&str, &str) {
    let start = address.find("://").map_or(0, |at| at + 3);
    match address[start..].find('/') {
        Some(at) => (&address[..start + at], &address[start + at + 1..]),
        None => (address, ""),
    }
}

/// The store of an address. Retries end in seconds: who has mistyped an address, or has no keys, wants to know.
fn open(address: &str, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, Error> {
    const RETRIES: usize = 3;
    const CONNECT: Duration = Duration::from_secs(5);
    const RETRY: Duration = Duration::from_secs(20);
    let (bucket, _) = split(address);
    macro_rules! store {
        ($builder:ty) => {{
            let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY, ..RetryConfig::default() };
            let client = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout_disabled();
            let builder = <$builder>::new().with_client_options(client).with_retry(retry).with_url(bucket);
            let builder = options.iter().fold(builder, |builder, (name, value)| match name.to_lowercase().parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            });
            Ok(Arc::new(builder.build()?))
        }};
    }
    match address {
        _ if address.starts_with("gs://") => store!(GoogleCloudStorageBuilder),
        _ if address.starts_with("az://") => store!(MicrosoftAzureBuilder),
        _ => store!(AmazonS3Builder),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn store(objects: &[(&str, &str)]) -> Arc<InMemory> {
        let store = Arc::new(InMemory::new());
        objects.iter().for_each(|(key, text)| put(&store, key, text));
        store
    }

    fn put(store: &InMemory, key: &str, text: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.put(&Key::from(key), text.to_owned().into())).unwrap();
    }

    fn keys(store: &Arc<InMemory>, address: &str) -> Vec<String> {
        let objects = Objects::of(Arc::<InMemory>::clone(store), address).unwrap();
        objects.found.iter().map(|object| object.location.to_string()).collect()
    }

    #[test]
    fn objects_folders_and_globs() {
        let store = store(&[
            ("x/b.txt", "b"),
            ("x/a.txt.gz", "a"),
            ("x/sub/c.txt", "c"),
            ("x/sub/d.dat", "d"),
            ("x/.hidden/e.txt", "e"),
            ("xy/f.txt", "f"),
        ]);
        assert_eq!(keys(&store, "s3://bucket/x"), ["x/a.txt.gz", "x/b.txt", "x/sub/c.txt"]);
        assert_eq!(keys(&store, "s3://bucket/x/"), ["x/a.txt.gz", "x/b.txt", "x/sub/c.txt"]);
        assert_eq!(keys(&store, "gs://bucket/x/b.txt"), ["x/b.txt"]);
        assert_eq!(keys(&store, "az://bucket/x/*.txt"), ["x/b.txt"]);
        assert_eq!(keys(&store, "s3://bucket/x/**/*.txt"), ["x/b.txt", "x/sub/c.txt"]);
        assert_eq!(keys(&store, "s3://bucket/x*/?.txt"), ["x/b.txt", "xy/f.txt"]);
        assert_eq!(keys(&store, "s3://bucket").len(), 4);
        let missing = |address: &str| Objects::of(Arc::<InMemory>::clone(&store), address).err().unwrap();
        for address in ["s3://bucket/y", "s3://bucket/x/b.tx", "s3://bucket/x/*.csv"] {
            assert!(matches!(missing(address), BucketError::Missing { .. }), "{address}");
        }
        assert!(matches!(missing("s3://bucket/x/[.txt"), BucketError::Glob { .. }));
    }

    #[test]
    fn a_digest_stays_until_an_object_changes() {
        let store = store(&[("x/a.txt", "one"), ("x/b.txt", "two")]);
        let objects = || Objects::of(Arc::<InMemory>::clone(&store), "s3://bucket/x").unwrap();
        let before = objects();
        assert_eq!(before.digest(), objects().digest());
        put(&store, "x/b.txt", "six");
        assert_ne!(before.digest(), objects().digest());
        // What was listed is not what is there now.
        let folder = tempfile::tempdir().unwrap();
        let error = before.fetch(folder.path()).unwrap_err();
        assert!(error.hint().unwrap().contains("changed while"), "{error:?}");
    }

    #[test]
    fn what_is_fetched_lies_where_readers_look() {
        let store = store(&[("x/a.txt", "one"), ("x/y/b.txt", "two")]);
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::of(store, "s3://bucket/x/**").unwrap();
        objects.fetch(folder.path()).unwrap();
        let text = |address: &str| fs::read_to_string(fetched_path(folder.path(), address)).unwrap();
        assert_eq!((text("s3://bucket/x/a.txt"), text("s3://bucket/x/y/b.txt")), ("one".into(), "two".into()));
        fs::write(fetched_path(folder.path(), "s3://bucket/x/a.txt"), "here already").unwrap();
        objects.fetch(folder.path()).unwrap();
        assert_eq!(text("s3://bucket/x/a.txt"), "here already");
    }
}
