// What ./deploy.sh makes, as one declaration: a Flex Consumption function app for flexwasm, with its storage and its logs.
// infra/README.md says when to use which, and how the package gets there.

@description('The function app, unique in all of Azure: lower-case letters, digits and dashes, a letter first')
@minLength(3)
@maxLength(40)
param name string

@description('A region that offers Flex Consumption')
param location string = 'eastasia'

@description('MB of one instance, and with them its processors')
@allowed([512, 2048, 4096])
param instanceMemory int = 2048

@description('The most instances that the platform starts')
@minValue(1)
@maxValue(1000)
param maxInstances int = 100

@description('Instances that never stop and are billed while idle')
@minValue(0)
@maxValue(1000)
param alwaysReady int = 0

@description('How the app gets at its storage: by a role of its own, or by a key in its settings')
@allowed(['identity', 'connection-string'])
param storageAuth string = 'identity'

// One number for the pool and for the platform: what is sent to an instance is what it can run.
var host = loadJsonContent('../host.json')
var poolSize = host.flexwasm.?pool.?size ?? host.extensions.http.maxConcurrentRequests

// The Functions host holds a body of known length whole, several times, before limits.requestBody is asked. deploy.sh minds what single
// functions say as well.
var requestBody = host.flexwasm.?limits.?requestBody ?? '100MiB'
var unit = { KiB: 1024, MiB: 1048576, GiB: 1073741824 }
var requestBodyUnit = substring(requestBody, length(requestBody) - 3)
var requestBodyLimit = int(replace(requestBody, requestBodyUnit, '')) * unit[requestBodyUnit]

var byIdentity = storageAuth == 'identity'
var containerName = 'app-package'
// Storage Blob Data Owner: what the Functions host needs for its keys and locks, and the platform for the package.
var blobDataOwner = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b')

resource storage 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: 'st${take(replace(name, '-', ''), 14)}${take(uniqueString(resourceGroup().id, name), 8)}'
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowBlobPublicAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: storage
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: containerName
}

resource logs 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: 'log-${name}'
  location: location
  properties: {
    sku: { name: 'PerGB2018' }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'ai-${name}'
  location: location
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: logs.id
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${name}'
  location: location
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true }
}

var commonSettings = [
  { name: 'FUNCTIONS_REQUEST_BODY_SIZE_LIMIT', value: string(requestBodyLimit) }
  { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insights.properties.ConnectionString }
]
var identitySettings = [
  { name: 'AzureWebJobsStorage__accountName', value: storage.name }
]
var connection = 'DefaultEndpointsProtocol=https;AccountName=${storage.name};AccountKey=${storage.listKeys().keys[0].value};EndpointSuffix=${environment().suffixes.storage}'
var connectionSettings = [
  { name: 'AzureWebJobsStorage', value: connection }
  { name: 'DEPLOYMENT_STORAGE_CONNECTION_STRING', value: connection }
]

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp,linux'
  identity: { type: 'SystemAssigned' }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    siteConfig: {
      appSettings: concat(commonSettings, byIdentity ? identitySettings : connectionSettings)
    }
    functionAppConfig: {
      // Exactly this version: another one is accepted, and the app does not start.
      runtime: { name: 'custom', version: '1.0' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${containerName}'
          authentication: byIdentity
            ? { type: 'SystemAssignedIdentity' }
            : {
                type: 'StorageAccountConnectionString'
                storageAccountConnectionStringName: 'DEPLOYMENT_STORAGE_CONNECTION_STRING'
              }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: maxInstances
        alwaysReady: alwaysReady == 0 ? [] : [{ name: 'http', instanceCount: alwaysReady }]
        triggers: { http: { perInstanceConcurrency: poolSize } }
      }
    }
  }
  dependsOn: [container]
}

resource role 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (byIdentity) {
  name: guid(storage.id, app.id, blobDataOwner)
  scope: storage
  properties: {
    roleDefinitionId: blobDataOwner
    principalId: app.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

output url string = 'https://${app.properties.defaultHostName}/api/http_trigger'
